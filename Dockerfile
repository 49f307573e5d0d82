# The image of SDK workers: Beam's own, with this package, TensorFlow and tfx-bsl.
#
#   docker build --tag REGISTRY/beam-tfscript:0.1.0 .
#   docker build --build-arg PYTHON_VERSION=3.12 --tag … .
#
# The Python and Beam versions must be those of the interpreter that submits the pipeline: the job's functions
# travel pickled. docs/submit.md says how each runner is told of the image.
ARG PYTHON_VERSION=3.11
ARG BEAM_VERSION=2.77.0
FROM apache/beam_python${PYTHON_VERSION}_sdk:${BEAM_VERSION}

# What takes long to install comes first, and is built anew only when what is needed changes.
WORKDIR /opt/beam_tfscript
COPY setup.py pyproject.toml constraints.txt README.md ./
COPY beam_tfscript/__init__.py beam_tfscript/
RUN pip install --no-cache-dir --constraint constraints.txt .

COPY beam_tfscript beam_tfscript
RUN pip install --no-cache-dir --no-deps --force-reinstall --constraint constraints.txt .

# Fails here rather than on a worker; as the last step, it also shows that the versions go together.
RUN python -c "import tensorflow, tfx_bsl.coders.example_coder, beam_tfscript; beam_tfscript.RunTFScript"

# Runs' rows are kept in TMPDIR while a run lasts. Mount a disk with space, and name it here or at start.
ENV TMPDIR=/tmp
WORKDIR /
ENTRYPOINT ["/opt/apache/beam/boot"]

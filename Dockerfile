# Image of SDK workers: Beam's image, with this package, TensorFlow and tfx-bsl.
#
#   docker build --tag REGISTRY/beam-tfscript:0.1.0 .
#   docker build --build-arg PYTHON_VERSION=3.12 --tag … .
#
# The Python and Beam versions must be those of the interpreter that submits the pipeline: the job's functions are
# pickled there. docs/submit.md tells which option names the image on each runner.
ARG PYTHON_VERSION=3.11
ARG BEAM_VERSION=2.77.0
FROM apache/beam_python${PYTHON_VERSION}_sdk:${BEAM_VERSION}

# Dependencies first, which take long to install: this layer is rebuilt only when they change.
WORKDIR /opt/beam_tfscript
COPY setup.py pyproject.toml constraints.txt README.md ./
COPY beam_tfscript/__init__.py beam_tfscript/
# setup.py reads the version above, and the project's address here.
COPY beam_tfscript/runtime/docs.py beam_tfscript/runtime/
RUN pip install --no-cache-dir --constraint constraints.txt .

COPY beam_tfscript beam_tfscript
RUN pip install --no-cache-dir --no-deps --force-reinstall --constraint constraints.txt .

# Fails here rather than on a worker. It also checks that the versions fit together.
RUN python -c "import tensorflow, tfx_bsl.coders.example_coder, beam_tfscript; beam_tfscript.RunTFScript"

# A run's rows are in TMPDIR during the run. Mount a disk with enough space, and set TMPDIR to it here or at start.
ENV TMPDIR=/tmp
WORKDIR /
ENTRYPOINT ["/opt/apache/beam/boot"]

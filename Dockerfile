# Images of SDK workers: Beam's image with this package, TensorFlow and tfx-bsl.
#
#   docker build --tag REGISTRY/beam-tfscript:0.1.0 .                         workers of Flink and Spark
#   docker build --target dataflow --tag REGISTRY/beam-tfscript-dataflow:0.1.0 .   workers and templates of Dataflow
#
# The Python and Beam versions must be those of the interpreter that submits the pipeline: the job's functions are
# pickled there. docs/submit.md tells which option names the image on each runner.
ARG PYTHON_VERSION=3.11
ARG BEAM_VERSION=2.77.0
# Google's launcher of templates: one program, for every version of Python.
ARG LAUNCHER_IMAGE=gcr.io/dataflow-templates-base/python311-template-launcher-base:latest

FROM ${LAUNCHER_IMAGE} AS launcher

FROM apache/beam_python${PYTHON_VERSION}_sdk:${BEAM_VERSION} AS package

# Bytecode is compiled here: workers may not write it, and would compile TensorFlow in each new process.
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1 \
    UV_PYTHON_INSTALL_DIR=/opt/python

# Dependencies first, which take long to install: this layer is rebuilt only when they change.
WORKDIR /opt/beam_tfscript
COPY setup.py pyproject.toml constraints.txt README.md ./
COPY beam_tfscript/__init__.py beam_tfscript/
# setup.py reads the version above, and the project's address here.
COPY beam_tfscript/runtime/docs.py beam_tfscript/runtime/
RUN pip install --no-cache-dir --constraint constraints.txt uv \
    && uv pip install --system --constraint constraints.txt '.[gs]'

# A second Python for scripts, if it is asked for, with python_env="worker:///opt/script" in the pipeline:
#   --build-arg SCRIPT_PYTHON=3.8 --build-arg SCRIPT_REQUIREMENTS="tensorflow==2.3.4 protobuf<3.21 numpy<1.19"
# The requirements have spaces between them, and none inside.
ARG SCRIPT_PYTHON=""
ARG SCRIPT_REQUIREMENTS=""
# hadolint ignore=SC2086
RUN if [ -n "${SCRIPT_PYTHON}" ]; then \
        set -o noglob \
        && uv venv --python "${SCRIPT_PYTHON}" /opt/script \
        && uv pip install --python /opt/script/bin/python ${SCRIPT_REQUIREMENTS}; \
    fi

COPY beam_tfscript beam_tfscript
RUN uv pip install --system --no-deps --reinstall-package beam-tfscript .

# Fails here rather than on a worker. It also checks that the versions fit together.
RUN python -c "import tensorflow, tfx_bsl.coders.example_coder, beam_tfscript; beam_tfscript.RunTFScript" \
    && if [ -n "${SCRIPT_PYTHON}" ]; then /opt/script/bin/python -c "import tensorflow"; fi

# A run's rows are in TMPDIR during the run. Mount a disk with enough space, and set TMPDIR to it here or at start.
ENV TMPDIR=/tmp
WORKDIR /
ENTRYPOINT ["/opt/apache/beam/boot"]


# One image for the workers and the template. It runs as root: the launcher writes to /var/log, and the service mounts
# directories of root. The launcher starts the file that the variable names.
FROM package AS dataflow
COPY --from=launcher /opt/google/dataflow/python_template_launcher /opt/google/dataflow/python_template_launcher
COPY pipelines/run_script.py /opt/beam_tfscript/pipelines/
ENV FLEX_TEMPLATE_PYTHON_PY_FILE=/opt/beam_tfscript/pipelines/run_script.py


# The last stage is the one that is built without --target. The boot program makes an environment for each worker in
# /opt/apache/beam-venv, and writes the job's options into the working directory.
FROM package AS worker
RUN useradd --create-home --uid 1000 beam \
    && install --directory --owner=beam --group=beam /opt/apache/beam-venv
USER 1000
WORKDIR /home/beam

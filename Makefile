# Every target does its own set-up: only Python (3.11 or newer) and make are needed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Files of tests are run at the same time, one more than there are processors: most of their time they wait.
WORKERS ?= $(shell $(PYTHON) -c "import os; print((os.cpu_count() or 1) + 1)")
AT_ONCE = --numprocesses=$(WORKERS) --dist=loadfile

.PHONY: test quick test-real check demo bench chaos mutants smoke hooks models fit studies room reference format clean

test: $(STAMP) check
	$(BIN)/python -m pytest $(AT_ONCE)

# Lint, types and the tests without servers, model files and whatever takes seconds: under a minute.
quick: $(STAMP) check
	$(BIN)/python -m pytest $(AT_ONCE) -m 'not slow and not server and not models and not real'

# What installs much: the built wheel and the oldest dependencies in environments of their own, the peers of the
# benchmark, the training code.
test-real: $(VENV)/.bench smoke
	$(BIN)/python -m pytest -m real
	$(BIN)/python -m pytest tests/bench/test_bench_cpu.py

# Runs ruff, mypy and the rules of the house before each commit (.pre-commit-config.yaml).
hooks: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pre-commit==4.7.0
	$(BIN)/pre-commit install

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

demo: $(STAMP)
	$(BIN)/mixtura demo

bench: $(VENV)/.bench
	$(BIN)/python -m bench

chaos: $(STAMP)
	$(BIN)/python -m bench.chaos
	$(BIN)/python -m bench.chaos.worst_case
	$(BIN)/python -m bench.soak

# Changes the code in 1,500 places, one at a time, and lists the changes that no test notices; it goes on where it was
# interrupted.
mutants: $(VENV)/.mutants
	$(BIN)/python -m bench.mutants

# The machine room: factors from measured points and docs/fit.md; then docs/machine-room.md with its plots.
fit: $(STAMP)
	$(BIN)/python -m calibration fit

room: fit studies

studies: $(STAMP)
	$(BIN)/mixtura studies --to docs --markdown

# The API reference, docs/reference, from the docstrings, and docs/dialects.md from the table of dialects.
reference: $(STAMP)
	$(BIN)/python -m docs_tools.reference
	$(BIN)/python -m docs_tools.dialects

# The training code, run small; `models` makes the toy models in the package anew: hours.
smoke: $(VENV)-training/.installed
	$(VENV)-training/bin/mypy training
	$(VENV)-training/bin/python -m pytest training/tests --timeout=600

models: $(VENV)-training/.installed
	$(VENV)-training/bin/python -m training full

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)-training/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-training
	$(VENV)-training/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,training]'
	touch $@

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Mixtura needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(STAMP)

# The peers that only the benchmark compares with (130 MB).
$(VENV)/.bench: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,bench]'
	touch $@

$(VENV)/.mutants: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,mutants]'
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-training mutants .mypy_cache .ruff_cache .hypothesis

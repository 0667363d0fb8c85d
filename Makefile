# Two commands on a fresh machine: `make demo` and `make test`. They need Python 3.11 or newer, pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := demo

.PHONY: help install demo test lint docs bench experiments clean

help:
	@echo "make demo    simulate, convert, preprocess, train and report on a small study (a few minutes)"
	@echo "make test    linters, types, layer contracts and tests"
	@echo "make docs    build the documentation into docs/_build/html"
	@echo "make bench   time conversion, fits and streams, and print the ratios"
	@echo "make experiments   train on simulated studies, and write docs/experiments.md (most of an hour)"
	@echo "make clean   remove what demo, docs, bench and experiments made, but for their pages"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@echo "==> Creating the environment in $(VENV) and installing msicube with all its extras (about a minute)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all]'
	@touch $@

demo: install
	@$(BIN)/msicube demo $(DEMO)

test: lint
	@echo "==> Tests"
	@$(BIN)/python -m pytest -q -n 2

lint: install
	@echo "==> ruff"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@echo "==> mypy"
	@$(BIN)/mypy
	@echo "==> import-linter"
	@$(BIN)/lint-imports

docs: install
	@echo "==> Building the documentation"
	@$(BIN)/python -m sphinx -q -W -b html docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

bench: install
	@$(BIN)/python -m benchmarks

experiments: install
	@$(BIN)/python -m benchmarks.experiments

clean:
	rm -rf $(DEMO) docs/_build docs/api/generated benchmarks/results build/experiments

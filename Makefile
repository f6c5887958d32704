# make            lists the targets
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-gpu lint lab notebooks clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.venv/.ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("flatlab needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

setup: .venv/.ready  ## make .venv with everything in it (about 5 GB, most of it torch)

demo: setup  ## train three methods on real digits, print a table, write a figure
	$(BIN)/flatlab demo

test: setup  ## run the tests
	$(BIN)/python -m pytest

test-gpu: setup  ## run the tests of computation on a CUDA machine
	FLATLAB_REQUIRE_CUDA=1 $(BIN)/python -m pytest -m "not browser" tests

lint: setup  ## format, style, types, direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lab: setup  ## open JupyterLab on the tour
	$(BIN)/flatlab lab notebooks/00_tour.ipynb

notebooks: setup  ## execute the notebooks' scripts into .ipynb files with pictures
	$(BIN)/python notebooks/build.py

clean:  ## remove the environment and caches (runs and data stay)
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis

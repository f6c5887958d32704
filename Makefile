# make            lists the targets
PYTHON ?= python3
BIN := .venv/bin
DATA ?= data
# Images set it; without bytecode each process that a test starts compiles the package anew, and each worker all tests.
export PYTHONDONTWRITEBYTECODE =
# Each worker takes a half of the files, whose fixtures it makes once, and then work from the other: both end together.
SPREAD := --numprocesses=auto --maxprocesses=4 --dist=worksteal
PYTEST := -m pytest -p no:nbmake -p no:benchmark $(SPREAD) --ignore=tests/browser
QUICK := tests/algorithms tests/data tests/models tests/zoo tests/test_foundations.py tests/test_digest.py

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-browser check check-docs docs check-wheel test-oldest test-gpu bench-gpu lint lab notebooks clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.venv/.ready: pyproject.toml setup.py $(wildcard flatlab/lab/js/*.js* flatlab/lab/js/*.css)
	$(PYTHON) -c 'import sys; sys.exit("flatlab needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[dev]'
	$(BIN)/python -c 'import flatlab.lab, flatlab.papers, pytest' # compiles what is used: a tenth of what is installed
	$(BIN)/python notebooks/unchanged.py --install # running a notebook is no change for git
	touch $@

setup: .venv/.ready  ## make .venv with everything in it (about 5 GB, most of it torch)

demo: setup  ## what the two papers claim, on real digits: a table and a figure
	$(BIN)/flatlab demo

test: setup  ## run the tests
	$(BIN)/python $(PYTEST) --durations=20 --durations-min=1

test-browser: setup  ## drive the lab in JupyterLab and chromium
	$(BIN)/python -m pytest -p no:nbmake -m browser tests/browser

check: lint  ## the minute before a commit: lint and the quick tests
	$(BIN)/python $(PYTEST) $(QUICK)

check-docs: setup  ## run what the documentation and the notebooks show
	$(BIN)/python notebooks/build.py --check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -p no:benchmark $(SPREAD) --nbmake --nbmake-timeout=600 \
		-m '' -k 'first_pages or ipynb' tests/test_docs.py notebooks

docs: setup  ## build the documentation site into docs/_build, offline; a warning is an error
	$(BIN)/python -m sphinx -q -W --keep-going docs docs/_build

check-wheel: setup  ## build wheel and source archive, use the wheel from another folder
	.ci/wheel

OLDEST := .venv-oldest
$(OLDEST)/.ready: pyproject.toml
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(OLDEST)/bin/uv pip install --quiet --python $(OLDEST)/bin/python --resolution lowest-direct \
		--only-binary :all: --no-binary flatlab --editable '.[dev]'
	touch $@

# Old libraries call what newer ones beneath them deprecate: that is theirs to mend, and mended in their newer versions.
test-oldest: $(OLDEST)/.ready  ## run the tests on the lowest versions that pyproject.toml allows
	$(OLDEST)/bin/python $(PYTEST) -W ignore::DeprecationWarning

test-gpu: setup  ## run the tests of computation on a CUDA machine
	FLATLAB_REQUIRE_CUDA=1 $(BIN)/python $(PYTEST) --ignore=tests/lab --maxprocesses=8

bench-gpu: test-gpu  ## check and measure everything that a GPU is for (about an hour; DATA=folder with cifar10.npz)
	$(BIN)/python benchmarks/targets.py --data $(DATA) --precision float32
	$(BIN)/python benchmarks/targets.py --data $(DATA) --precision tf32
	$(BIN)/python benchmarks/targets.py --data $(DATA) --precision bfloat16
	$(BIN)/python benchmarks/round.py --data $(DATA)
	$(BIN)/python benchmarks/precision.py
	$(BIN)/python benchmarks/scaling.py --data $(DATA)
	$(BIN)/python benchmarks/geometry.py --data $(DATA) --device cuda
	$(BIN)/python benchmarks/rivals/run.py --data $(DATA) --full
	$(BIN)/python benchmarks/rivals/run.py --data $(DATA) --full --setup A

lint: setup  ## format, style, types, direction of imports; style and types of the JavaScript
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python setup.py lint

lab: setup  ## open JupyterLab on the tour, in playground/: copies of the notebooks, to be run and changed
	$(BIN)/flatlab lab --to playground playground/00_tour.ipynb

notebooks: setup  ## execute the notebooks' scripts into .ipynb files with pictures
	$(BIN)/python notebooks/build.py

clean:  ## remove the environment and caches (runs and data stay)
	rm -rf .venv .venv-oldest .pytest_cache .mypy_cache .ruff_cache .hypothesis

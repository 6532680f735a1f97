# `make reproduce` and `make test` each do everything on a machine that has Python 3.11 to 3.13 and the package registries.
SHELL := /bin/bash
# the first that really starts: a version manager puts names in the path of versions that it does not have
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do $$p -c 'import venv' 2>/dev/null && echo $$p && break; done)
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# small models: more threads a process only get in each other's way
export OMP_NUM_THREADS := 1
# two workers, a file each: the pipeline tests wait on their own jobs for most of their time
PYTEST_ARGS ?= -n 2 --dist loadfile

.PHONY: env reproduce test test-all test-fast lint format clean

env: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

reproduce: env
	snakemake --cores all reproduce

test: env
	pytest -m "not exhaustive" $(PYTEST_ARGS)

test-all: env
	pytest $(PYTEST_ARGS)

test-fast: env
	pytest -m "not slow" $(PYTEST_ARGS)

lint: env
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	snakemake --lint
	mypy

format: env
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow

clean:
	rm -rf build data plan runs logs .state .snakemake reports/index.html reports/results.parquet reports/intervals.parquet \
	  reports/evidence reports/tables reports/figures reports/plots reports/models reports/partial

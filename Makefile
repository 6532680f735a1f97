# `make quickstart`, `make reproduce` and `make test` each do everything on a machine that has Python 3.11 to 3.13, or uv,
# and the package registries.
SHELL := /bin/bash
VENV ?= .venv
export PATH := $(abspath $(VENV))/bin:$(PATH)
# small models: more threads a process only get in each other's way
export OMP_NUM_THREADS := 1
# two workers, one file at a time each, in the order of tests/conftest.py: slow files first
PYTEST_ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder
# GPU=1: torch with CUDA
device := $(if $(GPU),gpu,cpu)
quick := build/quickstart/reports

.PHONY: env env-all env-slurm quickstart reproduce test test-all test-fast test-pythons lint style types format docs lock licences sbom clean

env: $(VENV)/.base-$(device)

# the same and what the tests need: pretrained encoders, NYUv2, a browser, the site
env-all: $(VENV)/.all-$(device)

# what a run on a cluster needs
env-slurm: $(VENV)/.slurm-$(device)

$(VENV)/.base-$(device) $(VENV)/.all-$(device) $(VENV)/.slurm-$(device): $(VENV)/.%-$(device): pyproject.toml locks/cuda.txt locks/%.txt
	workflow/envs/install.sh $(VENV) $* $(device)

quickstart: env
	snakemake --cores all reproduce --config suite=quickstart
	@echo "A figure: $(CURDIR)/$(quick)/figures/quickstart/quickstart_handwritten_scores.png"
	@echo "The report: $(CURDIR)/$(quick)/index.html"

reproduce: env
	snakemake --cores all reproduce

test: env-all
	pytest -m "not exhaustive" $(PYTEST_ARGS)

test-all: env-all
	pytest $(PYTEST_ARGS)

test-fast: env-all
	pytest -m "not slow and not exhaustive" $(PYTEST_ARGS)

# the fast tests on every Python from 3.11 on that is found, each in an environment of its own
test-pythons:
	workflow/envs/pythons.sh $(device)

lint: style types

style: env-all
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	snakemake --lint
	hadolint Containerfile

types: env-all
	mypy

format: env-all
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow

# the site in build/docs; every warning is an error
docs: env-all
	sphinx-build --builder html --nitpicky --fail-on-warning --keep-going --quiet --doctree-dir build/doctrees docs build/docs
	@echo "The site: $(CURDIR)/build/docs/index.html"

lock:
	workflow/envs/lock.sh

# docs/licences.md, from params/ and the installed packages
licences: env-all
	python workflow/envs/licences.py

# what a release is made of, in CycloneDX: packages of the locks, checksums, licences
sbom: env-all
	python workflow/envs/sbom.py

clean:
	rm -rf build data plan runs logs .state .snakemake reports/index.html reports/results.parquet reports/intervals.parquet \
	  reports/evidence reports/tables reports/figures reports/plots reports/models reports/pages reports/partial reports/single.html

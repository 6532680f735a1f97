# `make quickstart`, `make reproduce` and `make test` each do everything on a machine that has Python 3.11 to 3.13, or uv,
# and the package registries.
SHELL := /bin/bash
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# small models: more threads a process only get in each other's way
export OMP_NUM_THREADS := 1
# two workers, a file each: the pipeline tests wait on their own jobs for most of their time
PYTEST_ARGS ?= -n 2 --dist loadfile
# GPU=1: torch with CUDA
device := $(if $(GPU),gpu,cpu)
quick := build/quickstart/reports

.PHONY: env env-all quickstart reproduce test test-all test-fast test-pythons lint format lock clean

env: $(VENV)/.base-$(device)

# the same and every extra: for tests, pretrained encoders, NYUv2, a cluster
env-all: $(VENV)/.all-$(device)

$(VENV)/.base-$(device) $(VENV)/.all-$(device): $(VENV)/.%-$(device): pyproject.toml locks/cuda.txt locks/%.txt
	workflow/envs/install.sh $(VENV) $* $(device)
	touch $@

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

lint: env-all
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	snakemake --lint
	hadolint Containerfile
	mypy

format: env-all
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow

lock:
	workflow/envs/lock.sh

clean:
	rm -rf build data plan runs logs .state .snakemake reports/index.html reports/results.parquet reports/intervals.parquet \
	  reports/evidence reports/tables reports/figures reports/plots reports/models reports/pages reports/partial reports/single.html

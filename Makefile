# make run: the default run; make test: the tests; make lint; make docs: what is generated from the models;
# make bench: the benchmarks, on the frames of the default run or of SAS=FOLDER
PYTHON ?= python3
CORES ?= all
MARKERS ?= not slow
SAS ?= results/default/archive/sas
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)

.PHONY: run test lint bench docs
.DELETE_ON_ERROR:

run: .venv/run
	snakemake --cores $(CORES)
	@echo "The report: $(CURDIR)/results/default/report/index.html"

test: .venv/test
	pytest -m "$(MARKERS)"

lint: .venv/test
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	lint-imports --no-cache --no-logo
	snakemake --lint

bench: .venv/test
	python benchmarks/cubes.py $(SAS)
	python benchmarks/training.py

docs: .venv/test
	sdss-photoz schema > config.schema.json
	python -m sdss_photoz.config.document > docs/config.md

.venv/run: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	pip install --quiet --constraint constraints.txt --editable .
	@touch $@

.venv/test: .venv/run
	pip install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@

# `make` alone lists the targets. Everything runs in .venv, which the first target that needs it builds.
PYTHON ?= python3
OUT ?= runs/compare
NB ?=
ARGS ?=
# Processes that share the tests of `make test`: each takes one thread and 1 to 2 GB.
# One more than the two cores of a small machine, since tests also wait for files and for each other's commands.
JOBS ?= 3

SUDO := $(if $(filter-out 0,$(shell id -u)),sudo)

BIN := .venv/bin
PACKAGE := .venv/package
STAMP := .venv/installed
LOWEST := .venv-lowest
# What needs neither nbdev nor Sphinx nor a builder, and measures nothing.
FAST := $(filter-out $(addprefix tests/test_,$(addsuffix .py,claims notebooks notebook_checks site package bench mutants frameworks)),$(wildcard tests/test_*.py))

.PHONY: help run test lowest plain frameworks docs results browser lab bench prepare clean

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

# Stamps are written last, so that a failed install is tried again; a folder alone would count as done.
# What is already there is kept if it satisfies settings.ini: put your own build of PyTorch into .venv first.
$(PACKAGE): settings.ini setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -e .
	touch $@

$(STAMP): $(PACKAGE)
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev,docs,bench,ot,text,graph,export]'
	touch $@

run: $(PACKAGE) ## compare the strategies on the embedded images (OUT=folder, ARGS='--quick')
	$(BIN)/unremix compare --out $(OUT) $(ARGS)

test: $(STAMP) ## run every notebook and test (ARGS='-k 57_data')
	$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

lowest: ## the fast tests with the lowest versions of what the library requires, in .venv-lowest
	test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python tools/lowest.py > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pip install --disable-pip-version-check -c $(LOWEST)/constraints.txt -e . 'pytest>=8' 'pytest-xdist>=3.5'
	$(LOWEST)/bin/python -m pytest -n $(JOBS) $(FAST) $(ARGS)

plain: $(STAMP) ## `make test` as on a processor without wide vectors and bfloat16
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 $(BIN)/python -m pytest -n $(JOBS) $(ARGS)

frameworks: $(PACKAGE) ## how transformers, accelerate, safetensors and timm save a model with a loss
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[frameworks]' 'pytest>=8'
	$(BIN)/python -c 'import transformers, accelerate, safetensors, timm'
	$(BIN)/python -m pytest tests/test_frameworks.py $(ARGS)

docs: $(STAMP) ## the site, into _docs
	$(BIN)/python tools/build_site.py

results: $(STAMP) ## compute all tables and figures again from results/; fails where a page says otherwise
	$(BIN)/python -m pytest -m results

browser: ## what the browser tests need, with the system's package manager (otherwise they are skipped)
	command -v chromium || command -v google-chrome || { $(SUDO) apt-get update && $(SUDO) apt-get install -y chromium; }

lab: $(STAMP) ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/nbs

bench: $(PACKAGE) ## time and memory of the losses; leave the machine alone meanwhile (ARGS='scale --quick')
	$(BIN)/python -m benchmarks $(ARGS)

prepare: $(STAMP) ## after editing notebooks: export, execute (NB='nbs/library/57_data.ipynb' for some), clean, README
	$(BIN)/nbdev_export
	$(BIN)/python tools/run_notebooks.py $(NB)
	$(BIN)/nbdev_clean
	$(BIN)/python tools/readme.py

# unremix.egg-info stays: with a pip before 23.1 it is the installed package.
clean: ## remove builds and caches; .venv and runs stay
	rm -rf build dist _docs _proc .pytest_cache
	find nbs unremix benchmarks tests tools -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf

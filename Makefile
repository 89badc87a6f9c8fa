# `make` alone lists the targets. Everything runs in .venv, which the first target that needs it builds.
PYTHON ?= python3
OUT ?= runs/compare
NB ?=
ARGS ?=

SUDO := $(if $(filter-out 0,$(shell id -u)),sudo)

BIN := .venv/bin
PACKAGE := .venv/package
STAMP := .venv/installed

.PHONY: help run test docs results browser lab bench prepare clean

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

# Stamps are written last, so that a failed install is tried again; a folder alone would count as done.
# What is already there is kept if it satisfies settings.ini: put your own build of PyTorch into .venv first.
$(PACKAGE): settings.ini setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -e .
	touch $@

$(STAMP): $(PACKAGE)
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev,docs,bench]'
	touch $@

run: $(PACKAGE) ## compare the strategies on the embedded images (OUT=folder, ARGS='--quick')
	$(BIN)/unremix compare --out $(OUT) $(ARGS)

test: $(STAMP) ## run every notebook and test (ARGS='-k 07_views')
	$(BIN)/python -m pytest $(ARGS)

docs: $(STAMP) ## the site, into _docs
	$(BIN)/python tools/build_site.py

results: $(STAMP) ## recompute every table and figure from results/; fails where a page says otherwise
	$(BIN)/python -m pytest -m results

browser: ## what the browser tests need, with the system's package manager (otherwise they are skipped)
	command -v chromium || command -v google-chrome || { $(SUDO) apt-get update && $(SUDO) apt-get install -y chromium; }

lab: $(STAMP) ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/nbs

bench: $(PACKAGE) ## time and memory of the losses; leave the machine alone meanwhile
	$(BIN)/unremix bench $(ARGS)

prepare: $(STAMP) ## after editing notebooks: export, execute (NB='nbs/07_views.ipynb' for some), clean, README
	$(BIN)/nbdev_export
	$(BIN)/python tools/run_notebooks.py $(NB)
	$(BIN)/nbdev_clean
	$(BIN)/python tools/readme.py

clean: ## remove builds and caches; .venv and runs stay
	rm -rf build dist *.egg-info _docs _proc .pytest_cache
	find nbs unremix tests tools -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf

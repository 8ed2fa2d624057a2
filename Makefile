# Two commands matter: `make run` starts a server, `make test` checks everything.
# Both need Python 3.11 or later and make, and set up the rest by themselves.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

UV_VERSION := 0.13.8
GRPCURL_VERSION := v1.9.3
KUSTOMIZE_VERSION := v5.8.1
KUBECONFORM_VERSION := v0.8.0
PROTOC_GEN_GO_VERSION := v1.36.12
PROTOC_GEN_GO_GRPC_VERSION := v1.6.2
STATICCHECK_VERSION := v0.8.2

PYTHON ?= python3
TOOLS := .tools/bin
UV := $(TOOLS)/uv
DEBIAN := .tools/debian
BIN := .venv/bin
TYPESCRIPT_PACKAGES := clients/typescript/node_modules/.package-lock.json
CI ?= false
# Tests wait more than they compute. The tests of a file run one after the other. By itself xdist
# would begin files of few tests last, which are the longest here.
JOBS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

# Where it is set, each process compiles every module again: a server then starts in three times the time.
unexport PYTHONDONTWRITEBYTECODE
export UV_PYTHON_DOWNLOADS := never
export UV_PYTHON := $(PYTHON)
export PATH := $(CURDIR)/$(TOOLS):$(CURDIR)/$(BIN):$(PATH)

.PHONY: help run test lint unit audit clients conformance generate prove peers container tools clean

help: ## List the commands.
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

run: .venv/.run ## Start a server on 127.0.0.1:50051 with everything embedded.
	@exec $(BIN)/recollect serve $(ARGS)

test: .venv/.dev tools lint unit ## Run every check and every test.

lint: .venv/.dev $(TOOLS)/.go $(TYPESCRIPT_PACKAGES) ## Check style, types, layers, the contract, and that generated code is current.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@if command -v npm >/dev/null; then $(BIN)/pyright; fi
	$(BIN)/lint-imports
	scripts/find_secrets
	$(BIN)/python scripts/licences.py
	$(UV) lock --check --quiet
	cd proto && buf lint && buf format --diff --exit-code
	scripts/breaking
	hadolint Dockerfile
	$(BIN)/python scripts/generate.py --check
	$(BIN)/python scripts/unasync.py --check
	@if command -v go >/dev/null; then for module in clients/go gateway; do (cd $$module && \
	  test -z "$$(gofmt -l . | tee /dev/stderr)" && go vet ./... && staticcheck ./...); done; fi
	@if command -v mvn >/dev/null; then cd clients/java && mvn -B -q spotless:check test-compile; \
	elif [ "$(CI)" = true ]; then echo "mvn is required in CI" >&2; exit 1; fi
	@if command -v cargo >/dev/null; then cd clients/rust && \
	  cargo fmt --all --check && cargo clippy --quiet --locked --workspace --all-targets -- -D warnings; \
	elif [ "$(CI)" = true ]; then echo "cargo is required in CI" >&2; exit 1; fi
	@if command -v npm >/dev/null; then npm run --silent --prefix clients/typescript lint; fi

# The extra sentence-transformers brings 5 GB of torch, so its tests run where it is, and in CI.
unit: .venv/.dev $(if $(filter true,$(CI)),.venv/.torch) tools ## Run the tests.
	$(PYTEST) $(ARGS)

audit: $(UV) ## Look the locked packages up among known vulnerabilities, at osv.dev.
	$(UV) audit --locked

clients: .venv/.dev tools ## Test each client and its examples, the gateway for browsers, and old stubs.
	$(BIN)/python -m pytest tests/clients tests/docs tests/gateway tests/compatibility $(ARGS)

conformance: .venv/.dev tools ## Play every scenario with every client, and show the table.
	$(BIN)/python -m pytest tests/conformance $(ARGS)

prove: .venv/.dev tools ## Run the long proofs: kills, an hour's soak, fuzzing, tenants, stores at scale, the cache, the model made again.
	RECOLLECT_FAULT_ROUNDS=100 $(BIN)/python -m pytest tests/faults
	RECOLLECT_SOAK_MINUTES=60 $(BIN)/python -m pytest tests/soak
	RECOLLECT_FUZZ_INPUTS=1000000 RECOLLECT_IDLE_CONNECTIONS=10000 $(BIN)/python -m pytest tests/fuzz
	RECOLLECT_TENANCY_OPERATIONS=100000 $(BIN)/python -m pytest tests/tenancy
	RECOLLECT_VECTOR_PROOF=long $(BIN)/python -m pytest -s tests/stores/vectors
	RECOLLECT_CACHE_PROBES=10000 $(BIN)/python -m pytest tests/cache/test_isolation.py
	$(UV) sync --quiet --frozen --inexact --group dev --group model
	$(BIN)/python scripts/convert_minilm.py --check

peers: .venv/.dev tools ## Measure other memory servers beside this one, installed from PyPI.
	$(BIN)/python -m bench.peers $(ARGS)

container: .venv/.dev ## Build what the image holds without a container engine, and start it. Needs root.
	$(BIN)/python scripts/container_build.py $(or $(FOLDER),/tmp/recollect-container)

generate: .venv/.dev $(TOOLS)/.go $(TYPESCRIPT_PACKAGES) ## Write the stubs and reflection descriptors anew.
	cd proto && buf format -w
	$(BIN)/python scripts/generate.py
	$(BIN)/python scripts/unasync.py

tools: $(TOOLS)/grpcurl $(TOOLS)/kustomize $(TOOLS)/kubeconform $(DEBIAN)/.fetched $(TYPESCRIPT_PACKAGES) tests/mocks/node_modules/.package-lock.json ## Install what tests use beside Python.

clean: ## Remove what the commands above installed.
	rm -rf .venv .tools tests/mocks/node_modules clients/java/target clients/rust/target \
	  clients/typescript/node_modules clients/typescript/dist

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

.venv/.torch: .venv/.dev
	$(UV) sync --quiet --frozen --inexact --group dev --extra sentence-transformers
	@touch $@

# Tests that need a toolchain which is not there are skipped with that reason, but fail in CI.
$(TOOLS)/grpcurl: PACKAGE := github.com/fullstorydev/grpcurl/cmd/grpcurl@$(GRPCURL_VERSION)
$(TOOLS)/kustomize: PACKAGE := sigs.k8s.io/kustomize/kustomize/v5@$(KUSTOMIZE_VERSION)
$(TOOLS)/kubeconform: PACKAGE := github.com/yannh/kubeconform/cmd/kubeconform@$(KUBECONFORM_VERSION)
$(TOOLS)/grpcurl $(TOOLS)/kustomize $(TOOLS)/kubeconform: | $(UV)
	@if command -v go >/dev/null; then \
	  GOBIN=$(CURDIR)/$(TOOLS) go install $(PACKAGE); \
	elif [ "$(CI)" = true ]; then echo "go is required in CI" >&2; exit 1; fi

$(TOOLS)/.go: Makefile | $(UV)
	@if command -v go >/dev/null; then export GOBIN=$(CURDIR)/$(TOOLS); \
	  go install google.golang.org/protobuf/cmd/protoc-gen-go@$(PROTOC_GEN_GO_VERSION); \
	  go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@$(PROTOC_GEN_GO_GRPC_VERSION); \
	  go install honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK_VERSION); touch $@; \
	elif [ "$(CI)" = true ]; then echo "go is required in CI" >&2; exit 1; fi

$(DEBIAN)/.fetched: scripts/debian_programs | $(UV)
	@if command -v apt-get >/dev/null; then scripts/debian_programs $(CURDIR)/$(DEBIAN); touch $@; \
	elif [ "$(CI)" = true ]; then echo "apt-get is required in CI" >&2; exit 1; fi

%/node_modules/.package-lock.json: %/package-lock.json
	@if command -v npm >/dev/null; then npm ci --silent --prefix $* && touch $@; \
	elif [ "$(CI)" = true ]; then echo "npm is required in CI" >&2; exit 1; fi

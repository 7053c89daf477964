# Every command of users and developers in one place; `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
LOCK_FLAGS := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet
# pip compiles what it installs, but not what stays where it is; without bytecode every start takes longer.
COMPILE := $(BIN)/python -m compileall -q src
NPM_FLAGS := --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error
SOURCES := src tests test_router.py benchmarks hatch_build.py
CLIENTS := .venv-clients
COMPILED := hatch_build.py src/llm_router/classify/_arithmetic.c

.DEFAULT_GOAL := help
.PHONY: help demo test test-clients install-clients check format coverage bench bench-gateway weights check-weights lock clean \
  install

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## route six example tasks and answer some of them with a real model, here
	@$(BIN)/llm-router demo

test: $(VENV)/.dev ## run the whole test suite
	$(BIN)/python -m pytest

install-clients: $(CLIENTS)/.node $(CLIENTS)/.litellm $(CLIENTS)/.aider ## install programs of others that talk to the gateway

test-clients: $(VENV)/.dev install-clients ## try programs of others against the gateway (needs Node.js and npm)
	LLM_ROUTER_TEST_CLIENTS=$(CLIENTS) $(BIN)/python -m pytest -rs tests/clients tests/gateway/test_clients_guide.py

install: $(VENV)/.dev ## install everything, CrewAI and the tools of the tests included

check: $(VENV)/.dev ## lint, types and import rules
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## put the sources into the house style
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

coverage: $(VENV)/.dev ## run the tests and report which lines they reach
	$(BIN)/python -m pytest --cov --cov-report=term --cov-report=html

weights: $(VENV)/.dev ## train the classifier that is shipped (CASES=folder of labelled cases, or CASES=none)
	@test -n "$(CASES)" || { echo "error: the shipped classifier was trained on labelled cases as well"; \
	  echo "hint: make weights CASES=folder, or CASES=none for the text here alone"; exit 2; }
	$(BIN)/llm-router train --out src/llm_router/data/encoder.npz $(if $(filter-out none,$(CASES)),--cases $(CASES))

check-weights: $(VENV)/.dev ## prove that the shipped classifier is what the training text (and CASES) gives
	$(BIN)/llm-router train --check $(if $(filter-out none,$(CASES)),--cases $(CASES))
	$(BIN)/python -m llm_router.learn.leaks $(if $(filter-out none,$(CASES)),--cases $(CASES))

bench: $(VENV)/.dev ## measure what a decision costs, by size of the request, and the start of the program
	$(BIN)/python benchmarks/decision.py

bench-gateway: $(VENV)/.dev ## measure what the gateway adds (BENCH_LITELLM=venv BENCH_PORTKEY=folder: beside those)
	$(BIN)/python benchmarks/gateway.py

lock: ## write the hash-pinned requirement locks again (needs uv and npm)
	uv pip compile $(LOCK_FLAGS) pyproject.toml -o requirements/core.txt
	uv pip compile $(LOCK_FLAGS) --extra local pyproject.toml requirements/build.in -o requirements/demo.txt
	uv pip compile $(LOCK_FLAGS) --extra serve --extra local pyproject.toml requirements/build.in -o requirements/serve.txt
	uv pip compile $(LOCK_FLAGS) --extra dev pyproject.toml -o requirements/dev.txt
	uv pip compile $(LOCK_FLAGS) requirements/client-litellm.in -o requirements/client-litellm.txt
	uv pip compile $(LOCK_FLAGS) requirements/client-aider.in -o requirements/client-aider.txt
	npm install $(NPM_FLAGS) --package-lock-only --omit-lockfile-registry-resolved --prefix tests/clients

clean: ## remove what the commands above made
	rm -rf $(VENV) $(CLIENTS) build dist htmlcov .coverage .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	rm -f src/llm_router/*.so src/llm_router/classify/*.so
	find src tests -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: Python 3.11 or later is needed; $(PYTHON) is $$($(PYTHON) -V 2>&1)"; \
	       echo "hint: make demo PYTHON=python3.12"; exit 1; }
	@echo "creating $(VENV) with $$($(PYTHON) -V)"
	@$(PYTHON) -m venv $(VENV) \
	  || { echo "error: cannot create a virtual environment"; \
	       echo "hint: on Debian and Ubuntu: apt install python3-venv"; exit 1; }

$(VENV)/.demo: requirements/demo.txt pyproject.toml $(COMPILED) | $(BIN)/python
	@echo "installing the router and the embedded engine into $(VENV)"
	@$(PIP) install --progress-bar on --no-deps --require-hashes -r requirements/demo.txt
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@$(COMPILE)
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml $(COMPILED) | $(BIN)/python
	@echo "installing everything, CrewAI included, into $(VENV) (about 1 GB)"
	@$(PIP) install --progress-bar on --no-deps --require-hashes -r requirements/dev.txt
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@$(COMPILE)
	@touch $@ $(VENV)/.demo

$(CLIENTS)/.node: tests/clients/package.json tests/clients/package-lock.json
	@command -v node >/dev/null && command -v npm >/dev/null \
	  || { echo "error: Node.js and npm are needed for the clients that are written for Node.js"; \
	       echo "hint: on Debian and Ubuntu: apt install nodejs npm"; exit 1; }
	@echo "installing the clients for Node.js into $(CLIENTS)/node (about 200 MB)"
	@mkdir -p $(CLIENTS)/node
	@cp tests/clients/package.json tests/clients/package-lock.json $(CLIENTS)/node
	@npm ci $(NPM_FLAGS) --prefix $(CLIENTS)/node
	@touch $@

# Each pins what the others and the router's own environment have in another version.
$(CLIENTS)/.litellm: requirements/client-litellm.txt | $(BIN)/python
	@echo "installing LiteLLM into $(CLIENTS)/litellm (about 400 MB)"
	@$(BIN)/python -m venv --clear $(CLIENTS)/litellm
	@$(CLIENTS)/litellm/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --require-hashes -r $<
	@touch $@

$(CLIENTS)/.aider: requirements/client-aider.txt | $(BIN)/python
	@if $(BIN)/python -c 'import sys; sys.exit(sys.version_info >= (3, 13))'; then \
	   echo "installing aider into $(CLIENTS)/aider (about 700 MB)"; \
	   $(BIN)/python -m venv --clear $(CLIENTS)/aider && \
	   $(CLIENTS)/aider/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --require-hashes -r $<; \
	 else \
	   echo "aider is left out: it needs Python 3.12 or earlier, and $(VENV) has $$($(BIN)/python -V)"; mkdir -p $(CLIENTS); \
	 fi
	@touch $@

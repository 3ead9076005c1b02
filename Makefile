# Needs python3 (3.11 or later) with venv, and make. Everything else goes into .venv.
#
#   make run                      start the gateway; GATEWAY_* variables and ARGS="--client-port 9000" are passed on
#   make check                    lint, types, layers and tests
#   make loadtest ARGS="run chat" a load test; without ARGS: what there is
#   make pictures                 run mixed and kick and draw their reports for the README, into docs/pictures
#   make peers                    measure Socket.IO, ejabberd and others beside the gateway; writes docs/benchmarks.md
#   make test ARGS="tests/core"   some of the tests; WORKERS=0 runs them in one process

PYTHON ?= python3
VENV := .venv
# Test processes, a whole test file each: most tests wait for sockets, leases and servers most of their time.
WORKERS ?= 2
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint .ci/constraints.txt
RUNTIME := $(VENV)/.runtime
LOADTEST := $(VENV)/.loadtest
TOOLS := $(VENV)/.tools

.DEFAULT_GOAL := check
.PHONY: run loadtest check lint types layers test docs peers peers-installed pictures clean

run: $(RUNTIME)
	@exec $(BIN)/gateway serve $(ARGS)

loadtest: $(LOADTEST)
	@exec $(BIN)/python -m loadtest $(ARGS)

check: lint types layers test

lint: $(TOOLS)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { echo "run: $(BIN)/ruff format ."; exit 1; }

types: $(TOOLS)
	@$(BIN)/mypy

layers: $(TOOLS)
	@$(BIN)/lint-imports

test: $(TOOLS)
	@exec $(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile $(ARGS)

docs: $(TOOLS)
	@$(BIN)/gateway docs

# Needs node and npm, apt-get and dpkg, and two cores; what is missing is said, and left out.
peers: $(TOOLS)
	@exec $(BIN)/python -m loadtest peers --install --write docs/benchmarks.md $(ARGS)

# For the tests, which run every peer for a moment.
peers-installed: $(TOOLS)
	@exec $(BIN)/python -m loadtest peers --install-only

pictures: $(TOOLS)
	@PYTHON=$(BIN)/python exec bash loadtest/pictures.sh $(RESULTS)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# pip is what venv puts there last: where it is missing, the directory is half made.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is too old: Python 3.11 or later is needed (make PYTHON=python3.13 …)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
		|| { rm -rf $(VENV); echo "no virtual environment: on Debian install the package python3-venv"; exit 1; }

$(RUNTIME): pyproject.toml .ci/constraints.txt | $(BIN)/pip
	@echo "installing the gateway into $(VENV) …"
	@$(PIP) --editable .
	@touch $@

$(LOADTEST): pyproject.toml .ci/constraints.txt | $(BIN)/pip
	@echo "installing the gateway and its load test into $(VENV) …"
	@$(PIP) --editable '.[loadtest]'
	@touch $(RUNTIME) $@

$(TOOLS): pyproject.toml .ci/constraints.txt | $(BIN)/pip
	@echo "installing the gateway and its tools into $(VENV) …"
	@$(PIP) --editable '.[test]'
	@touch $(RUNTIME) $@

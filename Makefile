# Sixways. `make` lists the targets.
#
#   PYTHON=python3.12      the Python that .venv is made from (3.11 or newer)
#   TORCH_BACKEND=cpu      PyTorch without CUDA: 5 GB less, where PyTorch's own index is reachable
#   PULUMI_ARGS="--diff"   more options for `pulumi up`
#   PYTEST_ARGS="-k name"  more options for pytest
#   BENCH_ARGS=serving     parts of the benchmark and options: `.venv/bin/python -m bench --help`
#   SIXWAYS_CACHE          where the Pulumi CLI and the bundles are kept (~/.cache/sixways)

PYTHON ?= python3
TORCH_BACKEND ?=
PULUMI_ARGS ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=

BIN := .venv/bin
STAMP := .venv/.installed
# The SDKs of clouds are large: with what was found out before, types take seconds, not minutes.
MYPY_CACHE := $(or $(SIXWAYS_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sixways)/mypy
TYPED := $(wildcard components bundle model_server infra toolchain policies)
INSTALLED_FROM := pyproject.toml constraints.txt $(wildcard toolchain/*.txt) toolchain/install.sh \
	toolchain/go.mod toolchain/go.sum toolchain/install_pulumi.py toolchain/routes.py toolchain/paths.py

export PYTHON TORCH_BACKEND

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install up down env check test bench clean-help FORCE

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

install: $(STAMP) ## Make .venv with all packages and the Pulumi CLI

up: $(STAMP) ## Quantize the models and serve them on this machine (stack dev)
	@$(BIN)/python -m toolchain.stack up $(PULUMI_ARGS)

# Where nothing was ever up there is nothing to install for taking it down.
down: $(if $(wildcard .sixways Pulumi.dev.yaml),$(STAMP)) ## Stop it and remove its state; caches stay and are named
	@$(or $(wildcard $(BIN)/python),$(PYTHON)) -m toolchain.stack down

env: $(STAMP) ## Print the export lines for plain pulumi: eval "$(make -s env)"
	@$(BIN)/python -m toolchain.stack env

check: $(STAMP) ## Format, lint and strict types; changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@# The program in infra/ is run as a script: its folder is its import path.
	MYPYPATH=infra $(BIN)/mypy --cache-dir $(MYPY_CACHE) $(TYPED)

test: $(STAMP) ## Every test that this machine can run
	@# Status 5: PYTEST_ARGS chose no test of these.
	$(BIN)/python -m pytest -m "not (aws or host) or cluster" $(PYTEST_ARGS) || [ $$? -eq 5 ]
	@# These wait for an engine or a host most of their time: three at once take a third of it.
	$(BIN)/python -m pytest -m "aws and not cluster" -n 3 $(PYTEST_ARGS) || [ $$? -eq 5 ]
	@# A file's machines boot once.
	$(BIN)/python -m pytest -m "host and not (aws or cluster)" -n 3 --dist loadfile $(PYTEST_ARGS) || [ $$? -eq 5 ]

bench: $(STAMP) ## Measure size, quality, start and serving on this machine, against peers
	$(BIN)/python -m bench $(BENCH_ARGS)

clean-help: ## Name the caches, their sizes and how to remove them
	@$(or $(wildcard $(BIN)/python),$(PYTHON)) -m toolchain.stack caches

$(STAMP): $(INSTALLED_FROM)
	@sh toolchain/install.sh
	@touch $@

# The environment holds a link to the CLI in the cache; someone may have emptied that.
ifneq ($(shell test -x $(BIN)/pulumi && echo yes),yes)
$(STAMP): FORCE
endif

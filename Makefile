# make setup | demo | test | compose-test | check | bench | gpu-check | load | audit | serve | help

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
export HF_HUB_DISABLE_TELEMETRY := 1
export TOKENIZERS_PARALLELISM := false
# waiting threads must not spin: service, trainer and evaluation share the cores
export OMP_WAIT_POLICY := passive
# where torch comes from, here and in images; empty: the package index. make TORCH_INDEX_URL=…
TORCH_INDEX_URL ?=
export TORCH_INDEX_URL

.DEFAULT_GOAL := help
.PHONY: help setup demo test compose-test check bench gpu-check gpu-wheels load audit serve format

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.ready  ## the environment in .venv: client, service, trainer with OpenRLHF, tools

$(VENV)/.ready: pyproject.toml constraints.txt tools/setup.py
	@$(PYTHON) tools/setup.py $(VENV)
	@touch $@

demo: setup  ## service up, a real RL run against it, checkpoints judged, a report with plots
	@$(BIN)/python tools/demo.py

# Ray Serve in an environment of its own on top of the main one: there, Ray would start its dashboard with every training
# run, and Serve needs an older protobuf.
SERVE := .venv-serve
$(SERVE)/.ready: $(VENV)/.ready tools/setup.py
	@$(PYTHON) tools/setup.py --serve $(VENV) $(SERVE)
	@touch $@

test: setup $(SERVE)/.ready  ## every test, the end-to-end run through the real OpenRLHF included
	@$(BIN)/python -m pytest
	@$(SERVE)/bin/python -m pytest -q tests/serve

compose-test: setup  ## images built, docker compose up, a run in the trainer's container, restarts; needs Docker
	@$(BIN)/python -m tools.compose_test

check: setup  ## ruff, mypy strict, import directions
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/unit/test_import_directions.py

bench: setup  ## ratios against something measured in the same run
	@$(BIN)/python -m benchmarks.run

# no setup: the machine may have no network, and brings its own torch
gpu-check:  ## figures from a GPU in eight minutes; needs no network (docs/performance.md)
	@TOKENIZERS_PARALLELISM=true $(PYTHON) -m tools.gpu_check $(GPU_CHECK)

gpu-wheels: setup  ## the packages that gpu-check may lack on its machine, into .wheels-gpu
	@$(BIN)/python -m tools.gpu_check.wheels .wheels-gpu

soak: setup  ## generated cases, kills, overload, thousands of posts, half an hour of mixed load; about an hour
	@$(BIN)/python -m load.run

audit: setup  ## known vulnerabilities in what is installed, secrets in what is committed
	@$(BIN)/python -m tools.audit

serve: setup  ## the service on http://127.0.0.1:8000
	@$(BIN)/python -m reward_service

format: setup  ## ruff's formatter and safe fixes
	@$(BIN)/ruff check --fix -q .
	@$(BIN)/ruff format -q .

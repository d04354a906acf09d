# make help lists the targets.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
export HF_HUB_DISABLE_TELEMETRY := 1
export TOKENIZERS_PARALLELISM := false
# Idle threads must not spin: service, trainer and evaluation share the cores.
export OMP_WAIT_POLICY := passive
# Package index of torch, here and in images; empty: the default index. make TORCH_INDEX_URL=…
TORCH_INDEX_URL ?=
export TORCH_INDEX_URL

.DEFAULT_GOAL := help
.PHONY: help setup demo test coverage test-fast contract compose-test check bench gpu-check gpu-wheels load audit lock sbom serve format

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14
	@echo "to use the environment in a shell: source $(VENV)/bin/activate"

setup: $(VENV)/.ready  ## create .venv with client, service, trainer, OpenRLHF and tools

$(VENV)/.ready: pyproject.toml constraints.txt tools/setup.py
	@$(PYTHON) tools/setup.py $(VENV)
	@touch $@

demo: setup  ## train against the service on embedded models, evaluate the checkpoints, write a report
	@$(BIN)/python -m tools.demo

# Ray Serve gets a separate environment on top of the main one: in the main one, Ray would start its dashboard with every
# training run, and Serve needs an older protobuf.
SERVE := .venv-serve
$(SERVE)/.ready: $(VENV)/.ready tools/setup.py
	@$(PYTHON) tools/setup.py --serve $(VENV) $(SERVE)
	@touch $@

# Test files run in WORKERS processes, the tests of a file in one; a worker may use 4 GB of memory. The attacks run
# alone: they measure how long other callers wait.
WORKERS ?= 2
HOSTILE := tests/api/hostile
PARALLEL_TESTS = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --ignore $(HOSTILE)
test: setup $(SERVE)/.ready  ## run all tests, the end-to-end run through OpenRLHF included
	@$(PARALLEL_TESTS)
	@$(BIN)/python -m pytest $(HOSTILE)
	@$(SERVE)/bin/python -m pytest -q tests/serve

# Measuring takes half as long again as the tests themselves.
coverage: setup  ## run all tests but the attacks and measure coverage; fails below the floor in pyproject.toml
	@$(PARALLEL_TESTS) --cov

test-fast: setup  ## run the tests that are not marked slow, in 90 s
	@$(BIN)/python -m pytest -q -m "not slow and not gpu"

# FRAMEWORKS: names of environments or test files, or options of tools/frameworks.py
contract: setup  ## run the own code of training frameworks against the service, in environments of their own
	@$(BIN)/python -m tools.frameworks $(FRAMEWORKS)

compose-test: setup  ## build the images and test docker compose, training and restarts; needs Docker
	@$(BIN)/python -m tools.compose_test

check: setup  ## ruff, mypy, import directions, sizes, vocabulary
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/unit/test_import_directions.py tests/unit/test_sizes.py
	@$(BIN)/python -m tools.vocabulary

bench: setup  ## measure the speed as ratios within one run; writes benchmarks/RESULTS.md
	@$(BIN)/python -m benchmarks.run

# Without setup: the machine may have no network, and has its own torch.
gpu-check:  ## measure on a GPU for eight minutes; needs no network
	@TOKENIZERS_PARALLELISM=true $(PYTHON) -m tools.gpu_check $(GPU_CHECK)

gpu-wheels: setup  ## download the packages that gpu-check may need on its machine to .wheels-gpu
	@$(BIN)/python -m tools.gpu_check.wheels .wheels-gpu

load: setup  ## load tests of about 80 minutes: generated cases, kills, overload, hostile and mixed load; writes load/RESULTS.md
	@$(BIN)/python -m load.run

audit: setup  ## known vulnerabilities of installed packages, secrets in files and history
	@$(BIN)/python -m tools.audit

lock: setup  ## write the hashes of the packages of the images to docker/locks
	@$(BIN)/python -m tools.lock

SBOM_IMAGE ?= glassbox-service:local
sbom:  ## print the CycloneDX list of the Python packages in an image, SBOM_IMAGE: service or trainer
	@docker run --rm --network none --entrypoint cat $(SBOM_IMAGE) /opt/glassbox/sbom.json

serve: setup  ## run the service on http://127.0.0.1:8000
	@$(BIN)/python -m reward_service

format: setup  ## format the code and apply ruff's safe fixes
	@$(BIN)/ruff check --fix -q .
	@$(BIN)/ruff format -q .

# Everything runs in .venv, which the first command that needs it makes. `make help` lists the commands.

BIN := .venv/bin
READY := .venv/ready
SETUP := requirements.lock pyproject.toml $(wildcard deploy/setup-*.sh)
# Homebrew's libraries lie outside the places where macOS looks on its own.
ifeq ($(shell uname -s),Darwin)
RUN := DYLD_FALLBACK_LIBRARY_PATH=$(shell brew --prefix 2>/dev/null)/lib $(BIN)
else
RUN := $(BIN)
endif
UV := build/uv/bin/uv
# PyTorch names the exact versions of these itself, for the builds that need them.
CUDA := ^(nvidia-|cuda-|triton)

.DEFAULT_GOAL := help
.PHONY: help demo up test oracle bench bench-gpu lint format types setup lock clean

##@ Use

demo: $(READY) ## Audit a real model end to end; prints the verdict and where the evidence PDF lies
	@$(RUN)/audit-service demo-model >/dev/null
	@$(RUN)/audit-service run examples/loan-denial.yaml

up: $(READY) ## Start the service with its database, broker and worker; Ctrl-C ends them
	@$(RUN)/audit-service up

##@ Develop

# Two processes of one thread each: threads of both would wait for each other on two cores, at several times the cost.
test: $(READY) lint types ## Run linters, type checker and every test
	OMP_NUM_THREADS=1 $(RUN)/python -m pytest --numprocesses 2 --dist loadfile $(PYTEST)

oracle: $(READY) ## Compare cells with other libraries, in an environment of their own (part of make test)
	$(RUN)/python -m pytest tests/oracle

bench: $(READY) ## Time sweeps against other libraries on the demonstration model (10 minutes on a quiet machine)
	@tests/oracle/setup.sh
	build/oracle/bin/python -W ignore -m tests.benchmarks.sweep --model "$$($(RUN)/audit-service demo-model)"

bench-gpu: $(READY) ## Compare the cells of a GPU with the processor's, and time sweeps of larger models on it
	$(RUN)/python -m pytest -m gpu tests
	@tests/oracle/setup.sh
	build/oracle/bin/python -W ignore -m tests.benchmarks.sweep --shape 1b --device cuda --dtype bfloat16
	build/oracle/bin/python -W ignore -m tests.benchmarks.sweep --shape 1b --device cuda --dtype float32
	build/oracle/bin/python -W ignore -m tests.benchmarks.scaling --device cuda --dtype bfloat16 --shapes 1b 3b 8b --out scaling.svg

lint: $(READY) ## Check style and format
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .

types: $(READY) ## Check types
	$(RUN)/mypy

format: $(READY) ## Format the code and sort its imports
	$(RUN)/ruff check --select I --fix .
	$(RUN)/ruff format .

##@ Set up

setup: $(READY) ## Make the environment .venv (the other commands do it when it is needed)

lock: $(UV) ## Write requirements.lock anew from pyproject.toml; UPGRADE=1 takes newer versions
	$(UV) pip compile pyproject.toml --universal --python-version 3.11 --extra worker --extra quantized --extra report --extra frames --extra mlflow --extra dev \
		--no-header --no-annotate $(if $(UPGRADE),--upgrade) --quiet --output-file requirements.lock
	grep -vE '$(CUDA)' requirements.lock > build/requirements.lock && mv build/requirements.lock requirements.lock

$(UV): $(READY)
	$(BIN)/python -m venv build/uv
	build/uv/bin/pip install --quiet uv==0.13.8

clean: ## Remove the environment and what the tools leave behind
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
	find audit_service workers tests migrations -name __pycache__ -prune -exec rm -rf {} +

$(READY): $(SETUP)
	@deploy/setup-system.sh
	@deploy/setup-python.sh
	@touch $@

help: ## List the commands
	@awk 'BEGIN {FS = ":.*## "} /^##@ / {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

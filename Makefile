# make demo | test | rehearse | lint | bench | gpu | setup; each sets up what it needs and may be run again at no cost.
# PYTHON names the interpreter: `make gpu PYTHON=python3` uses one that has a CUDA torch already, without network.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test rehearse lint bench gpu clean

VENV := .venv
STAMP := $(VENV)/.set-up
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONUNBUFFERED := 1

help:
	@echo "make setup   .venv with the pinned versions of constraints.txt"
	@echo "make demo    trains on the synthetic demonstration cohort (minutes on two cores)"
	@echo "make test    lint and all tests, what .ci/run runs"
	@echo "make rehearse  kills, stops, engines and Slurm at length: what takes too long for each commit (an hour)"
	@echo "make lint    ruff and mypy"
	@echo "make bench   the benchmarks of the README's performance section"
	@echo "make gpu     every test and benchmark that needs a GPU (PYTHON=python3: that interpreter, no network)"

setup: $(STAMP)

$(STAMP): setup.cfg pyproject.toml constraints.txt
	@python=""; for name in "$${PYTHON:-}" python3 python3.13 python3.12 python3.11; do \
	  if [ -n "$$name" ] && "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python="$$name"; break; fi; \
	done; \
	if [ -z "$$python" ]; then echo "vwmm needs Python 3.11 or newer; name one: make setup PYTHON=/path/to/python3.11" >&2; exit 2; fi; \
	echo "setting up $(VENV) with $$python (about two minutes)"; \
	"$$python" -m venv $(VENV)
	@# torch first: a bare requirement of another package would take a build of its own choice
	@$(VENV)/bin/python -m pip install -qq -c constraints.txt torch
	@$(VENV)/bin/python -m pip install -qq -c constraints.txt -e ".[all,dev]"
	@touch $(STAMP)

demo: $(STAMP)
	@OMP_NUM_THREADS=1 $(VENV)/bin/accelerate launch --config_file launch/cpu.yaml vwmm/train.py
	@echo "ceiling  a model of one modality alone can reach 66.7 % on this cohort, by construction (docs/demo.md)"

test: lint
	@# one thread a library: three workers and what they start share the cores already
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -m "not gpu" -n 3 --dist loadfile --no-loadscope-reorder $(TESTS)

rehearse: $(STAMP)
	VWMM_REHEARSALS=20 VWMM_COLD_STARTS=1 $(VENV)/bin/python -m pytest -m "not gpu" tests/faults tests/launch tests/slurm tests/test_scaling.py \
	  tests/commands/test_predict.py tests/commands/test_sweep.py tests/engine/training/test_train_loop.py

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(STAMP)
	@for script in benchmarks/[a-z]*.py; do case "$$script" in benchmarks/gpu_*) continue;; esac; \
	  echo "== $$script"; PYTHONPATH=. $(VENV)/bin/python "$$script"; done

# Without PYTHON the project's own .venv is used, and made if it is absent.
ifdef PYTHON
GPU_PYTHON := $(PYTHON)
gpu:
else
GPU_PYTHON := $(VENV)/bin/python
gpu: $(STAMP)
endif
	@if ! PYTHONPATH=. $(GPU_PYTHON) -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then \
	  echo "skipped: $(GPU_PYTHON) has no torch that sees a CUDA GPU"; exit 0; fi; \
	PYTHONPATH=. $(GPU_PYTHON) -m pytest -m gpu; \
	for script in benchmarks/gpu_*.py; do [ -e "$$script" ] || continue; echo "== $$script"; PYTHONPATH=. $(GPU_PYTHON) "$$script"; done

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

# Every target builds .venv first where it is missing or out of date. Another Python: make test PYTHON=python3.12
PYTHON ?=
PROCESSES ?= 2

# Tests run in several processes that share the cores; threads of their own would slow them down many times.
ONE_THREAD = OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1

.PHONY: help demo test lint bench setup clean

help:
	@echo "make demo   train, fine-tune and draw with VAN-B0 on small data; writes work_dirs/demo/report.html (10 to 12 min on 2 cores)"
	@echo "make test   run the tests"
	@echo "make lint   check style and formatting with ruff"
	@echo "make bench  time backbones against onedl-mmpretrain, and operations against plain ones (25 min on 2 cores)"
	@echo "make setup  only build .venv, which the others do by themselves"
	@echo "make clean  remove .venv and caches; data/ and work_dirs/ stay"

demo: setup
	@.venv/bin/python tools/demo/demo.py

test: setup
	@$(ONE_THREAD) .venv/bin/python -m pytest -n $(PROCESSES)

lint: setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .

bench: setup
	@.venv/bin/python -m pip install --quiet --no-deps --disable-pip-version-check -r requirements-bench.lock
	@.venv/bin/python tools/bench/benchmark.py --out docs/benchmarks/backbones_cpu.json
	@.venv/bin/python tools/bench/benchmark_ops.py --out docs/benchmarks/ops_cpu.json
	@.venv/bin/python tools/bench/benchmark.py --tables docs/benchmarks > docs/benchmarks.md

setup:
	@PYTHON="$(PYTHON)" sh tools/setup/setup_env.sh

clean:
	rm -rf .venv .pytest_cache .ruff_cache *.egg-info

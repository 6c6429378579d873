# Every target builds .venv first where it is missing or out of date. Another Python: make test PYTHON=python3.12
PYTHON ?=
PROCESSES ?= 2
THREADS ?= 1
CAPABILITY ?= own

# Tests run in several processes that share the cores. Neighbours share fixtures, so each process begins with a part in
# order, and takes from another at the end. Threads of their own would slow them down; threads that wait
# without giving up their core would do so many times.
THREADED = OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=$(THREADS) MKL_NUM_THREADS=$(THREADS) \
	OPENBLAS_NUM_THREADS=$(THREADS) NUMBA_NUM_THREADS=1

# The processor's instructions that torch's own kernels, MKL and oneDNN may use: "own" lets each library choose. Only
# "default" has no fused multiply-add, which rounds a product and a sum once. ("env" alone changes nothing.)
INSTRUCTIONS_own = env
INSTRUCTIONS_default = ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE ONEDNN_MAX_CPU_ISA=SSE41
INSTRUCTIONS_avx2 = ATEN_CPU_CAPABILITY=avx2 MKL_CBWR=AVX2 ONEDNN_MAX_CPU_ISA=AVX2
INSTRUCTIONS_avx512 = ATEN_CPU_CAPABILITY=avx512 MKL_CBWR=AVX512 ONEDNN_MAX_CPU_ISA=AVX512_CORE
INSTRUCTIONS = $(or $(INSTRUCTIONS_$(CAPABILITY)),$(error CAPABILITY is $(CAPABILITY); allowed: own, default, avx2, avx512))

.PHONY: help demo demo-full test test-numeric kill-test fuzz lint docs heads bench bench-dense gpu-report gpu-wheels site release setup clean

help:
	@echo "make demo   train, fine-tune and draw with VAN-B0 on small data; writes work_dirs/demo/report.html (10 to 15 min on 2 cores)"
	@echo "make demo-full  train every head on every family for a short while, can be stopped and goes on (about an hour on 2 cores)"
	@echo "make test   run the tests; on another vector unit: make test CAPABILITY=default, avx2 or avx512"
	@echo "make test-numeric  run only the tests that compare sums, with the same choice of CAPABILITY"
	@echo "make kill-test  kill small trainings 260 times, resume them, and compare; writes docs/reliability.md (20 min on 2 cores)"
	@echo "make fuzz   give 14000 odd inputs to every reader and every public function; writes docs/reliability.md (some hours)"
	@echo "make lint   check style and formatting with ruff"
	@echo "make bench  time backbones against onedl-mmpretrain, operations against plain ones, data loader and loop (28 min on 2 cores)"
	@echo "make bench-dense  the same for detectors: steps, masks, memory of training, beside onedl-mmpretrain's (40 min on 2 cores)"
	@echo "make docs   write the generated pages anew: README, configs, weights, frozen, features, models, heads, exports, reliability, own_data, benchmarks, distillation, demo-full"
	@echo "make heads  try every kind of model of mmdet and mmseg with our networks; writes docs/heads.md (half an hour on 2 cores)"
	@echo "make gpu-report  test and time everything on a GPU, 8 minutes at most; writes docs/benchmarks/gpu"
	@echo "make gpu-wheels  collect in wheels/ what gpu-report needs beside PyTorch on a machine without a network"
	@echo "make site  build the documentation's site in work_dirs/site, all links checked"
	@echo "make release  build the wheel and the source archive in dist/, and check both"
	@echo "make setup  only build .venv, which the others do by themselves"
	@echo "make clean  remove .venv and caches; data/ and work_dirs/ stay"

demo: setup
	@.venv/bin/python tools/demo/demo.py

demo-full: setup
	@.venv/bin/python tools/demo/full.py

test: setup
	@$(THREADED) $(INSTRUCTIONS) .venv/bin/python -m pytest -n $(PROCESSES) --dist worksteal

test-numeric: setup
	@$(THREADED) $(INSTRUCTIONS) .venv/bin/python -m pytest -n $(PROCESSES) --dist worksteal -m numeric

kill-test: setup
	@$(THREADED) .venv/bin/python tools/reliability/kill_test.py --out docs/reliability/kills.json; status=$$?; \
		.venv/bin/python tools/docs/reliability_page.py --write; exit $$status

# Faulty inputs are kept in work_dirs/fuzz.
fuzz: setup
	@$(THREADED) .venv/bin/python tools/reliability/fuzz.py --out docs/reliability/fuzz.json; status=$$?; \
		.venv/bin/python tools/docs/reliability_page.py --write; exit $$status

lint: setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .

site: setup
	@.venv/bin/python -m pip install --quiet --no-deps --disable-pip-version-check -r requirements-docs.lock
	@.venv/bin/python tools/docs/build_site.py

release: setup
	@.venv/bin/python tools/setup/release.py

docs: setup
	@.venv/bin/python tools/docs/results_table.py --write
	@.venv/bin/python tools/docs/configs_table.py --write
	@.venv/bin/python tools/docs/weights_table.py > docs/weights.md
	@.venv/bin/python tools/docs/frozen_table.py --write
	@.venv/bin/python tools/docs/features_page.py --write
	@.venv/bin/python tools/model_info.py --published > docs/models.md
	@.venv/bin/python tools/docs/dense_models_table.py --write
	@.venv/bin/python tools/docs/heads_table.py --write
	@.venv/bin/python tools/docs/exports_table.py --write
	@.venv/bin/python tools/docs/reliability_page.py --write
	@.venv/bin/python tools/docs/own_data_page.py --write
	@.venv/bin/python tools/docs/options_table.py --write
	@.venv/bin/python tools/bench/benchmark_backbones.py --tables docs/benchmarks > docs/benchmarks.md
	@.venv/bin/python tools/bench/distillation.py --page docs/distillation.json > docs/distillation.md
	@.venv/bin/python tools/demo/full.py --page docs/demo_full.json > docs/demo_full.md

# An interrupted run goes on where it stopped. The page is written even if a model is worse than before.
heads: setup
	@$(THREADED) .venv/bin/python tools/heads/heads.py --processes $(PROCESSES); status=$$?; \
		if [ $$status -le 1 ]; then .venv/bin/python tools/docs/heads_table.py --write; fi; exit $$status

bench: setup
	@.venv/bin/python -m pip install --quiet --no-deps --disable-pip-version-check -r requirements-bench.lock
	@.venv/bin/python tools/bench/benchmark_backbones.py --out docs/benchmarks/backbones_cpu.json
	@.venv/bin/python tools/bench/benchmark_ops.py --cases depthwise --out docs/benchmarks/ops_cpu.json
	@.venv/bin/python tools/bench/benchmark_loader.py --out docs/benchmarks/loader_cpu.json
	@.venv/bin/python tools/benchmark.py classification/configs/van/van_b0_8xb128_in1k.py --only training --size 224x224 \
		--batch 16 --out docs/benchmarks/model_van_b0_cpu.json
	@.venv/bin/python tools/bench/benchmark_saving.py --out docs/benchmarks/saving_cpu.json
	@.venv/bin/python tools/bench/benchmark_backbones.py --tables docs/benchmarks > docs/benchmarks.md

# Steps of the demo's detector and segmenter, loading of masks, memory of training, and detectors beside the peer's.
bench-dense: setup
	@.venv/bin/python -m pip install --quiet --no-deps --disable-pip-version-check -r requirements-bench.lock
	@test -f data/demo/demo_data.json || .venv/bin/python tools/make_demo_data.py --out data/demo
	@.venv/bin/python tools/benchmark.py detection/configs/demo/mask_rcnn_van_b0_digits.py --own-data --batch 4 \
		--threads 1 --repeats 20 --out docs/benchmarks/model_mask_rcnn_demo_cpu.json
	@.venv/bin/python tools/benchmark.py segmentation/configs/demo/upernet_van_b0_digits.py --own-data --batch 4 \
		--threads 1 --repeats 20 --out docs/benchmarks/model_upernet_demo_cpu.json
	@.venv/bin/python tools/bench/benchmark_ops.py --cases roi_align --out docs/benchmarks/ops_roi_align_cpu.json
	@.venv/bin/python tools/bench/benchmark_masks.py --out docs/benchmarks/masks_cpu.json
	@.venv/bin/python tools/bench/benchmark_memory.py --out docs/benchmarks/memory_cpu.json
	@.venv/bin/python tools/bench/benchmark_detectors.py --out docs/benchmarks/detectors_cpu.json
	@.venv/bin/python tools/bench/benchmark_backbones.py --tables docs/benchmarks > docs/benchmarks.md

gpu-report: setup
	@.venv/bin/python -m pip install --quiet --no-deps --disable-pip-version-check -r requirements-bench.lock
	@.venv/bin/python tools/bench/gpu_report.py

# Without PyTorch and what belongs to it, which the machine with the GPU has.
gpu-wheels: setup
	@grep -hvE '^(#|torch|nvidia|cuda-|triton|ruff)' requirements.lock requirements-bench.lock > .venv/gpu-wheels.txt
	@.venv/bin/python -m pip wheel --quiet --no-deps --disable-pip-version-check -w wheels -r .venv/gpu-wheels.txt

setup:
	@PYTHON="$(PYTHON)" sh tools/setup/setup_env.sh

clean:
	rm -rf .venv .pytest_cache .ruff_cache *.egg-info

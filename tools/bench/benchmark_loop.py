"""Times the training loop: the share of a step that is not forward, backward or optimiser step.

python tools/bench/benchmark_loop.py [CONFIG] [--batch 16] [--steps 12] [--size 224]
    [--out docs/benchmarks/loop_cpu.json]

The images are random, and the loader runs in the same process. So what remains are hooks, logging, preprocessing on the
device, and putting batches together.
"""

import json
import tempfile
import time
from pathlib import Path

import torch
from benchmark import count, machine
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS
from torch.utils.data import Dataset

from engine.cli import Parser, output_folder, run_tool
from engine.config import load_config
from engine.run import build_training

CONFIG = "classification/configs/van/van_b0_8xb128_in1k.py"
FIRST = 2  # steps that do not count: the memory of the first ones is new


@DATASETS.register_module(force=True)
class RandomImages(Dataset):
    """Random uint8 images (3, side, side) of class 0, made once. Every data set of a config gets a ``data_root``."""

    def __init__(self, number: int, side: int, data_root: str = ""):
        self.images = torch.randint(0, 256, (number, 3, side, side), dtype=torch.uint8)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        return {"inputs": self.images[index], "data_samples": 0}


@HOOKS.register_module(force=True)
class LoopTimer(Hook):
    """Seconds of the loop from the end of step ``FIRST`` on, and those within forward, backward and optimiser step."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.begin = self.whole = self.inside = 0.0

    def before_train(self, runner) -> None:
        model, step = runner.model, runner.model.train_step

        def train_step(*args, **kwargs):
            start = time.perf_counter()
            try:
                return step(*args, **kwargs)
            finally:
                self.inside += time.perf_counter() - start

        def preprocess(*args, **kwargs):
            start = time.perf_counter()
            try:
                return prepared(*args, **kwargs)
            finally:
                self.inside -= time.perf_counter() - start  # belongs to the loop

        model.train_step = train_step
        prepared, model.data_preprocessor.forward = model.data_preprocessor.forward, preprocess

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if runner.iter + 1 == FIRST:
            self.begin, self.inside = time.perf_counter(), 0.0
        self.whole = time.perf_counter() - self.begin


def main() -> None:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("config", nargs="?", default=CONFIG, help=f"config of a training (default: {CONFIG})")
    parser.add_argument("--batch", type=count, default=16, help="images in a batch (default: 16)")
    parser.add_argument("--steps", type=count, default=12, help="timed steps (default: 12)")
    parser.add_argument("--size", type=count, default=224, help="side of the images in pixels (default: 224)")
    parser.add_argument("--out", type=Path, help="JSON file to write the figures to")
    args = parser.parse_args()
    if args.out:
        output_folder(args.out.parent)
    timer = measured(args.config, args.batch, args.steps, args.size)
    report = {
        "machine": machine(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "loop": {
            "config": args.config,
            "batch": args.batch,
            "size": args.size,
            "steps": args.steps,
            "step_ms": 1e3 * timer.whole / args.steps,
            "overhead_ms": 1e3 * (timer.whole - timer.inside) / args.steps,
            "overhead": 1 - timer.inside / timer.whole,
        },
    }
    figures = report["loop"]
    print(f"step {figures['step_ms']:.1f} ms, overhead {figures['overhead_ms']:.1f} ms: {figures['overhead']:.2%}")
    if args.out:
        args.out.write_text(json.dumps(report, indent=2) + "\n")
        print(f"figures: {args.out}")


def measured(config: str, batch: int, steps: int, side: int) -> LoopTimer:
    """The timer of a training of ``FIRST + steps`` steps on the CPU."""
    images = dict(_delete_=True, type="RandomImages", number=batch * (FIRST + steps), side=side)
    options = {
        "train_dataloader.dataset": images,
        "train_dataloader.batch_size": batch,
        "train_dataloader.num_workers": 0,
        "train_dataloader.sampler": dict(_delete_=True, type="DefaultSampler", shuffle=True),
        "train_cfg.max_epochs": 1,
        "param_scheduler": [],
        "default_hooks.checkpoint": None,
        "auto_scale_lr.enable": False,
        "custom_hooks": [dict(type="LoopTimer")],
    }
    options |= {f"{split}_{part}": None for split in ("val", "test") for part in ("dataloader", "cfg", "evaluator")}
    with tempfile.TemporaryDirectory() as folder:
        runner = build_training(load_config(config, options), folder, device="cpu")
        runner.train()
    return next(hook for hook in runner.hooks if isinstance(hook, LoopTimer))


if __name__ == "__main__":
    run_tool(main)

"""Times how long saving a checkpoint stops a training, beside the copy to host memory and the whole writing.

python tools/bench/benchmark_saving.py [CONFIG ...] [--repeats 7] [--out docs/benchmarks/saving_cpu.json]

Each training has averaged weights and an optimiser's state. After each step a checkpoint is saved, as the runs here do.
Then the same content is copied, and written without a thread. The three take turns in one process.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from backbones.files import write_json
from backbones.weights import save_safely
from ziggurat.engine.benchmark import WARM_UP, Setting, measuring, shorten_training
from ziggurat.engine.cli import Parser, output_folder, run_tool
from ziggurat.engine.machine import machine
from ziggurat.engine.run import build_training
from ziggurat.engine.saving import copied, finish_saving
from ziggurat.engine.tool_options import count

CONFIGS = [f"classification/configs/van/van_{size}_8xb128_in1k.py" for size in ("b0", "b2", "b3")]

SIZE, BATCH = (64, 64), 2  # of the random images: the checkpoint does not depend on them


def main() -> None:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("configs", nargs="*", default=CONFIGS, metavar="CONFIG", help="configs of trainings")
    parser.add_argument("--repeats", type=count, default=7, help="checkpoints (default: 7)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--out", type=Path, help="JSON file to write the figures to")
    args = parser.parse_args()
    if args.out:
        output_folder(args.out.parent)
    rows = [measured(config, args.repeats, args.device) for config in args.configs]
    for row in rows:
        print(row)
    if args.out:
        write_json(
            args.out, {"machine": machine(torch.device(args.device)), "saving": {"repeats": args.repeats}, "rows": rows}
        )
        print(f"figures: {args.out}")


@HOOKS.register_module(force=True)
class SavingTimes(Hook):
    """Saves after each step, and measures: ``stopped``, ``copied`` and ``written``, in seconds."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {"stopped": [], "copied": [], "written": []}
        self.size = 0

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        folder = Path(runner.work_dir)
        finish_saving(runner)
        self.take("stopped", lambda: runner.save_checkpoint(str(folder), "thread.pth", by_epoch=False))
        finish_saving(runner)
        content = runner.checkpoint_content({})
        runner.call_hook("before_save_checkpoint", checkpoint=content)
        self.take("copied", lambda: copied(content))
        self.take("written", lambda: save_safely(copied(content), folder / "alone.pth"))
        self.size = (folder / "alone.pth").stat().st_size

    def take(self, name: str, call: Callable[[], Any]) -> None:
        start = time.perf_counter()
        call()
        self.seconds[name].append(time.perf_counter() - start)


def measured(config: str, repeats: int, device: str) -> dict[str, Any]:
    """The ``config``, its checkpoint's ``mib``, and the medians ``stopped_ms``, ``copied_ms`` and ``written_ms``."""
    setting = Setting(config, [], None, SIZE, BATCH, device, "fp32", 1, repeats, own_data=False)
    with measuring("training", setting) as cfg, tempfile.TemporaryDirectory() as folder:
        cfg.model.backbone.pretrained = None
        shorten_training(cfg, setting)
        cfg.custom_hooks = [*cfg.custom_hooks, dict(type="EMAHook"), dict(type=SavingTimes.__name__)]
        runner = build_training(cfg, folder, device=device)
        runner.train()
    hook = next(hook for hook in runner.hooks if isinstance(hook, SavingTimes))
    medians = {f"{name}_ms": round(1e3 * statistics.median(times[WARM_UP:]), 1) for name, times in hook.seconds.items()}
    return {"config": config, "mib": round(hook.size / 2**20), **medians}


if __name__ == "__main__":
    run_tool(main)

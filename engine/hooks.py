"""What a run shows on the console, and how it keeps its checkpoints."""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce, get_world_size, is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop
from torch import nn
from tqdm import tqdm

from backbones.errors import unknown

SLOW_LINES = 30.0  # seconds between the lines of a long evaluation


@HOOKS.register_module(force=True)
class ProgressHook(Hook):
    """Shows training and evaluation: a bar with ETA on a terminal, plain lines elsewhere. The log file has it all.

    Args:
        interval: iterations between two plain lines.
    """

    priority = "VERY_LOW"

    def __init__(self, interval: int = 50):
        self.interval = interval
        self.out = sys.stdout  # the runner sends what libraries print meanwhile to the log file
        self.bars: list[tqdm] = []
        self.last_line = time.monotonic()

    def before_train(self, runner: Any) -> None:
        self.start_iter = runner.iter
        self.started = time.monotonic()
        left = runner.max_iters - runner.iter
        work = f"training for {left}" if left > 0 else f"nothing left to train after {runner.iter}"
        self.say(f"{work} iterations; log: {runner.logger.log_file}")
        self.open_bar("train", runner.max_iters, runner.iter)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if not is_main_process():
            return
        done = runner.iter + 1
        facts = self.facts(runner)
        if self.bars:
            self.bars[-1].set_postfix_str("  ".join(f"{name} {value}" for name, value in facts.items()), refresh=False)
            self.bars[-1].update()
        elif done % self.interval == 0 or done in (self.start_iter + 1, runner.max_iters):
            left = (time.monotonic() - self.started) / (done - self.start_iter) * (runner.max_iters - done)
            text = "  ".join(f"{name} {value}" for name, value in facts.items())
            self.say(f"train {done:>{len(str(runner.max_iters))}}/{runner.max_iters}  {text}  eta {clock(left)}")

    def after_train(self, runner: Any) -> None:
        self.close_bar()
        if hasattr(self, "started"):
            self.say(f"trained in {clock(time.monotonic() - self.started)}; checkpoints: {runner.work_dir}")

    def before_val_epoch(self, runner: Any) -> None:
        self.open_bar("val", len(runner.val_dataloader))

    def before_test_epoch(self, runner: Any) -> None:
        self.open_bar("test", len(runner.test_dataloader))

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.count("val", batch_idx + 1, len(runner.val_dataloader))

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.count("test", batch_idx + 1, len(runner.test_dataloader))

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        self.close_bar()
        self.say(f"val    {self.moment(runner)}{scores(metrics)}")

    def after_test_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        self.close_bar()
        self.say(f"test   {scores(metrics)}")

    def facts(self, runner: Any) -> dict[str, str]:
        """What a training line says of this iteration."""
        hub, facts = runner.message_hub, {}
        if by_epoch(runner):
            facts["epoch"] = f"{runner.epoch + 1}/{runner.max_epochs}"
        for name, form in (("loss", ".4f"), ("lr", ".2e")):
            if f"train/{name}" in hub.log_scalars:
                scalar = hub.get_scalar(f"train/{name}")
                facts[name] = f"{scalar.mean(self.interval) if name == 'loss' else scalar.current():{form}}"
        return facts

    def moment(self, runner: Any) -> str:
        """Where in the training a validation happened; nothing outside a training."""
        if not hasattr(self, "started"):
            return ""
        return f"epoch {runner.epoch}  " if by_epoch(runner) else f"iteration {runner.iter}  "

    def count(self, name: str, done: int, total: int) -> None:
        if self.bars:
            self.bars[-1].update()
        elif time.monotonic() - self.last_line > SLOW_LINES:
            self.say(f"{name}   {done}/{total}")

    def open_bar(self, name: str, total: int, initial: int = 0) -> None:
        if is_main_process() and self.out.isatty():
            bar = tqdm(total=total, initial=initial, desc=name, file=self.out, leave=False, dynamic_ncols=True)
            self.bars.append(bar)

    def close_bar(self) -> None:
        if self.bars:
            self.bars.pop().close()

    def say(self, line: str) -> None:
        """A line on the console, above the bars."""
        if is_main_process():
            tqdm.write(line, file=self.out)
            self.out.flush()
            self.last_line = time.monotonic()


@HOOKS.register_module(force=True)
class AverageBuffersHook(Hook):
    """Batch norm statistics become the mean over all processes before they are tested or saved."""

    def after_train_epoch(self, runner: Any) -> None:
        average_buffers(runner.model)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if any(isinstance(hook, SafeCheckpointHook) and hook.is_due(runner) for hook in runner.hooks):
            average_buffers(runner.model)

    def before_val_epoch(self, runner: Any) -> None:
        average_buffers(runner.model)


@HOOKS.register_module(force=True)
class SafeCheckpointHook(CheckpointHook):
    """mmengine's hook, except that an older checkpoint goes only once the newer one and its record are in place."""

    def is_due(self, runner: Any) -> bool:
        """Whether this training iteration ends with a checkpoint."""
        last = self.save_last and self.is_last_train_iter(runner)
        return not self.by_epoch and (last or self.every_n_train_iters(runner, self.interval, self.save_begin))

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict) -> None:
        outdated = []
        if self.max_keep_ckpts > 0 and (not self.keep_ckpt_ids or self.keep_ckpt_ids[-1] != step):
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                outdated.append(self.filename_tmpl.format(self.keep_ckpt_ids.popleft()))
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info("keep_ckpt_ids", list(self.keep_ckpt_ids))
        name = self.filename_tmpl.format(step)
        self.last_ckpt = str(Path(self.out_dir) / name)
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
        )
        if is_main_process():
            beside = Path(runner.work_dir, ".last_checkpoint.tmp")
            beside.write_text(self.last_ckpt)
            beside.replace(Path(runner.work_dir, "last_checkpoint"))
            for old in outdated:
                Path(self.out_dir, old).unlink(missing_ok=True)

    def _save_best_checkpoint(self, runner: Any, metrics: dict[str, float]) -> None:
        if not self.save_best:
            return
        for name in self.key_indicators:
            if name != "auto" and name not in metrics:
                raise unknown("metric of save_best", name, metrics)
        before = self.best_paths()
        if hasattr(self, "best_ckpt_path"):
            self.best_ckpt_path = None
        else:
            self.best_ckpt_path_dict = dict.fromkeys(self.best_ckpt_path_dict)
        super()._save_best_checkpoint(runner, metrics)
        for name, old in before.items():
            new = self.best_paths().get(name)
            if new is None:
                self.set_best_path(name, old)
            elif old is not None and old != new and is_main_process():
                Path(old).unlink(missing_ok=True)

    def best_paths(self) -> dict[str, str | None]:
        if hasattr(self, "best_ckpt_path"):
            return {"": self.best_ckpt_path}
        return dict(self.best_ckpt_path_dict)

    def set_best_path(self, name: str, path: str | None) -> None:
        if hasattr(self, "best_ckpt_path"):
            self.best_ckpt_path = path
        else:
            self.best_ckpt_path_dict[name] = path


def average_buffers(model: nn.Module) -> None:
    if get_world_size() == 1:
        return
    buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point() and buffer.numel()]
    if not buffers:
        return
    flat = torch.cat([buffer.float().flatten() for buffer in buffers])
    all_reduce(flat, "mean")
    for buffer, mean in zip(buffers, flat.split([buffer.numel() for buffer in buffers]), strict=True):
        buffer.copy_(mean.view_as(buffer))


def by_epoch(runner: Any) -> bool:
    return isinstance(runner.train_loop, EpochBasedTrainLoop)


def scores(metrics: dict[str, Any] | None) -> str:
    """Metrics on one line: numbers only, those that could not be measured left out."""
    numbers = {name: value for name, value in (metrics or {}).items() if isinstance(value, int | float | np.number)}
    return "  ".join(f"{name} {value:.4g}" for name, value in numbers.items()) or "no metrics"


def clock(seconds: float) -> str:
    """h:mm:ss, without the hours where there are none."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"

"""The console of a run: the lines it shows, and the prints and warnings that go to the log file instead."""

import contextlib
import io
import os
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn
from tqdm import tqdm

from backbones import PyramidBackbone
from backbones.errors import Notice, shorten
from engine.loader_time import cures, is_held_up, step_times

SLOW_LINES = 30.0  # seconds between the lines of a long evaluation


def say_note(message: object) -> None:
    """Prints ``note: ...`` on stderr, in the first process only."""
    if is_main_process():
        print(f"note: {message}", file=sys.stderr)


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Drops warnings and prints to stdout inside the block.

    mm's forks print remarks on import. Tools that print JSON need a clean stdout.
    """
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def prints_to_log(runner: Runner) -> Iterator[None]:
    """Sends prints and warnings of libraries inside the block to the run's log file. Our own notes go to stderr."""
    path = runner.logger.log_file if runner.rank == 0 else os.devnull
    with open(path, "a", buffering=1) as file, contextlib.redirect_stdout(file), library_warnings_to(file):
        yield


@contextlib.contextmanager
def library_warnings_to(file: TextIO | None) -> Iterator[None]:
    """Sends warnings inside the block to ``file``, or nowhere. A :class:`Notice` becomes a line on stderr."""

    def show(message: Warning, category: type[Warning], filename: str, lineno: int, *rest: Any) -> None:
        if issubclass(category, Notice):
            say_note(message)
        elif file is not None:
            file.write(warnings.formatwarning(message, category, filename, lineno))

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


@HOOKS.register_module(force=True)
class ProgressHook(Hook):
    """Shows the progress of training and evaluation: a bar on a terminal, plain lines elsewhere.

    Args:
        interval: iterations between two plain lines.
    """

    priority = "VERY_LOW"

    def __init__(self, interval: int = 50):
        self.interval = interval
        self.out = sys.stdout  # the runner replaces sys.stdout later
        self.bars: list[tqdm] = []
        self.last_line = time.monotonic()
        self.blamed_loader = False

    def before_train(self, runner: Any) -> None:
        for line in loaded_lines(runner.model):
            self.say(line)
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
        if done % self.interval == 0:
            self.blame_loader(runner)

    def blame_loader(self, runner: Any) -> None:
        """Says once that the training waits for its data loader, and what may help."""
        times = step_times(runner, self.interval)
        if self.blamed_loader or times is None or not is_held_up(*times, self.interval):
            return
        self.blamed_loader = True
        step, loader = times
        advice = ", or ".join(cures(runner.train_dataloader))
        self.say(f"note: the loader takes {loader:.2f} s of {step:.2f} s a step; it may be faster with {advice}")

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
        """The facts in a training line: epoch, loss, learning rate, seconds of a step and of the wait in it."""
        hub, facts = runner.message_hub, {}
        if by_epoch(runner):
            facts["epoch"] = f"{runner.epoch + 1}/{runner.max_epochs}"
        for name, form in (("loss", ".4f"), ("lr", ".2e")):
            if f"train/{name}" in hub.log_scalars:
                scalar = hub.get_scalar(f"train/{name}")
                facts[name] = f"{scalar.mean(self.interval) if name == 'loss' else scalar.current():{form}}"
        times = step_times(runner, self.interval)
        if times is not None:
            facts["step"], facts["loader"] = (f"{seconds:.3f} s" for seconds in times)
        return facts

    def moment(self, runner: Any) -> str:
        """The epoch or iteration of a validation within a training; "" outside a training."""
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


def loaded_lines(model: nn.Module) -> list[str]:
    """One line for each backbone that loaded ``pretrained``: the number of tensors, and the tensors left out."""
    lines = []
    for module in model.modules():
        report = module.load_report if isinstance(module, PyramidBackbone) else None
        if report:
            left_out = f"; left out: {shorten(report.unexpected, 2)}" if report.unexpected else ""
            place = f", {report.place}" if report.place not in ("", "state_dict") else ""
            facts = f"{len(report.loaded)} tensors from {module.pretrained} ({report.source}{place}){left_out}"
            lines.append(f"{module.arch}: {facts}")
    return lines


def by_epoch(runner: Any) -> bool:
    return isinstance(runner.train_loop, EpochBasedTrainLoop)


def scores(metrics: dict[str, Any] | None) -> str:
    """The metrics that are numbers, on one line."""
    numbers = {name: value for name, value in (metrics or {}).items() if isinstance(value, int | float | np.number)}
    return "  ".join(f"{name} {value:.4g}" for name, value in numbers.items()) or "no metrics"


def clock(seconds: float) -> str:
    """Seconds as ``h:mm:ss``, or ``m:ss`` below an hour."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"

"""The progress of a run on the console: a bar on a terminal, plain lines elsewhere, and one line an epoch on both."""

import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop
from torch import nn
from tqdm import tqdm

from backbones import PyramidBackbone
from backbones.errors import printable, shorten
from ziggurat.engine.loader_time import cures, is_held_up, step_times
from ziggurat.engine.summary import RAW

SLOW_LINES = 30.0  # seconds between the lines of slow work
MOST = 4  # metrics in an epoch's line, if none of them is known as a main one


@HOOKS.register_module(force=True)
class ProgressHook(Hook):
    """Shows the progress of training and evaluation: a bar on a terminal, plain lines elsewhere.

    A training by epochs has one line an epoch, with the metrics of the validation after it. Without a bar, slow work
    has lines in between.

    Args:
        interval: the loss and the times of a line in between are means over so many iterations.
        metrics: the metrics in an epoch's line, each beside that of the trained weights if there are two. Without any
            of them the line shows the first few metrics.
        pause: seconds before a line in between. 0 shows every iteration.
    """

    priority = "VERY_LOW"

    def __init__(self, interval: int = 50, metrics: Sequence[str] = (), pause: float = SLOW_LINES):
        self.interval = interval
        self.metrics = tuple(metrics)
        self.pause = pause
        self.out = sys.stdout  # the runner replaces sys.stdout later
        self.bars: list[tqdm] = []
        self.last_line = time.monotonic()
        self.blamed_loader = False
        self.epoch_start, self.epoch_began = 0, 0.0  # iteration and time.monotonic() at the start of the epoch
        self.epoch_line: tuple[str, str, str] | None = None  # epoch, loss and times, which wait for the metrics

    def before_train(self, runner: Any) -> None:
        for line in loaded_lines(runner.model):
            self.say(line)
        self.start_iter = runner.iter
        self.started = time.monotonic()
        left = iterations_left(runner)
        self.total = self.start_iter + left
        work = f"training for {left}" if left > 0 else f"nothing left to train after {runner.iter}"
        self.say(f"{work} iterations; log: {runner.logger.log_file}")
        self.open_bar("train", self.total, runner.iter)

    def before_train_epoch(self, runner: Any) -> None:
        self.end_epoch(runner)
        self.epoch_start, self.epoch_began = runner.iter, time.monotonic()

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if not is_main_process():
            return
        done = runner.iter + 1
        if self.bars:
            epoch = epoch_of(runner) if by_epoch(runner) else ""
            facts = joined(epoch, self.learned(runner, self.interval), self.times(runner, self.interval))
            self.bars[-1].set_postfix_str(facts, refresh=False)
            self.bars[-1].update()
        elif self.is_due() or (not by_epoch(runner) and done in (self.start_iter + 1, self.total)):
            place = f"train {done:>{len(str(self.total))}}/{self.total}"
            epoch = epoch_of(runner) if by_epoch(runner) else ""
            facts = self.learned(runner, self.interval), self.times(runner, self.interval)
            self.say(joined(place, epoch, *facts, self.eta(done)))
        if done % self.interval == 0:
            self.blame_loader(runner)

    def after_train_epoch(self, runner: Any) -> None:
        if by_epoch(runner):
            window = max(1, runner.iter - self.epoch_start)
            self.epoch_line = epoch_of(runner), self.learned(runner, window), self.times(runner, window)

    def end_epoch(self, runner: Any, metrics: dict[str, Any] | None = None) -> None:
        """The line of the epoch that has ended, if it was not shown."""
        if self.epoch_line is not None:
            epoch, learned, times = self.epoch_line
            found = main_scores(metrics, self.metrics) if metrics else ""
            took = f"took {clock(time.monotonic() - self.epoch_began)}"
            self.say(joined(epoch, learned, found, times, took, self.eta(runner.iter)))
            self.epoch_line = None

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
        self.end_epoch(runner)
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
        if self.epoch_line is None:
            self.say(f"val    {self.moment(runner)}{scores(metrics)}")
        self.end_epoch(runner, metrics)

    def after_test_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        self.close_bar()
        self.say(f"test   {scores(metrics)}")

    def learned(self, runner: Any, window: int) -> str:
        """The mean loss of the last ``window`` iterations, in the first process, and the learning rate of the last."""
        scalars, facts = runner.message_hub.log_scalars, []
        if "train/loss" in scalars:
            facts.append(f"loss {scalars['train/loss'].mean(window):.4f}")
        if "train/lr" in scalars:
            facts.append(f"lr {scalars['train/lr'].current():.2e}")
        return "  ".join(facts)

    def times(self, runner: Any, window: int) -> str:
        """The mean seconds of a step and of its wait for the loader; "" without mmengine's timer."""
        found = step_times(runner, window)
        return "step {:.3f} s  loader {:.3f} s".format(*found) if found else ""

    def eta(self, done: int) -> str:
        """The time until the end of the training, at the pace of this process since its start."""
        pace = (time.monotonic() - self.started) / max(1, done - self.start_iter)
        return f"eta {clock(pace * (self.total - done))}"

    def is_due(self) -> bool:
        """Whether it is time for a line in between."""
        return time.monotonic() - self.last_line >= self.pause

    def moment(self, runner: Any) -> str:
        """The iteration of a validation within a training; "" outside a training."""
        return f"iteration {runner.iter}  " if hasattr(self, "started") else ""

    def count(self, name: str, done: int, total: int) -> None:
        if self.bars:
            self.bars[-1].update()
        elif self.is_due():
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
            tqdm.write(printable(line), file=self.out)
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


def iterations_left(runner: Any) -> int:
    """The iterations until the end of a training. Epochs may have been of another length before a resume."""
    if not by_epoch(runner):
        return runner.max_iters - runner.iter
    skipped = getattr(runner.train_dataloader.batch_sampler, "skip", 0)  # of an epoch that a resumed run goes on with
    return (runner.max_epochs - runner.epoch) * len(runner.train_dataloader) - skipped


def by_epoch(runner: Any) -> bool:
    return isinstance(runner.train_loop, EpochBasedTrainLoop)


def joined(*facts: str) -> str:
    """The facts that there are, on one line."""
    return "  ".join(fact for fact in facts if fact)


def epoch_of(runner: Any) -> str:
    """The place of the current epoch, such as ``epoch  9/300``."""
    return f"epoch {runner.epoch + 1:>{len(str(runner.max_epochs))}}/{runner.max_epochs}"


def main_scores(metrics: dict[str, Any], main: Sequence[str]) -> str:
    """The main metrics on one line, each beside that of the trained weights where the others are averaged."""
    keys = {f"{mark}{name.rpartition('/')[2]}": mark + name for name in main for mark in ("", RAW)}
    chosen = {shown: metrics[key] for shown, key in keys.items() if key in metrics}
    return scores(chosen or dict(list(metrics.items())[:MOST]))


def scores(metrics: dict[str, Any] | None) -> str:
    """The metrics that are numbers, on one line; "none" stands for a metric that the data do not define."""
    kinds = int | float | np.number | None
    numbers = {name: value for name, value in (metrics or {}).items() if isinstance(value, kinds)}
    said = (f"{name} none" if value is None else f"{name} {value:.4g}" for name, value in numbers.items())
    return "  ".join(said) or "no metrics"


def clock(seconds: float) -> str:
    """Seconds as ``h:mm:ss``, or ``m:ss`` below an hour."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"

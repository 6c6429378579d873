"""A run that stalls says which process waits for what. Each process leaves a sign of life in the work dir."""

import contextlib
import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from backbones.errors import UserError, one_line, shown
from ziggurat.engine.heartbeat import FOLDER, PAUSE, Heartbeat, forget_heartbeats, read_heartbeats
from ziggurat.engine.loader_time import step_times
from ziggurat.engine.memory import resident
from ziggurat.engine.progress import by_epoch, iterations_left
from ziggurat.engine.signals import Stopped
from ziggurat.engine.whereabouts import WAITS_FOR_OTHERS, of_main_thread

QUIET = 10.0  # seconds without progress, after which the thread writes the heartbeat in place of the training
SILENT = 60.0  # seconds by which the heartbeat of a process is older than another one, if something is wrong
WINDOW = 50  # iterations that figures are means of
MEMORY_STEPS = 10  # iterations between two looks at the memory
OFF = "ZIGGURAT_NO_WATCHDOG"  # this environment variable switches the thread off, as for a debugger


@HOOKS.register_module(force=True)
class WatchdogHook(Hook):
    """Says where a training waits that finished no step, and no batch of a validation, for a long time.

    A line on stderr names the process, its last iteration, and what its main thread does. The stacks of all threads go
    to the log file. The lines come again after twice the time, four times the time, and so on. The first process also
    names the processes that are behind. Every process keeps a file of its progress in the work dir, for
    ``tools/status.py``.

    Args:
        seconds: until the first line. None: only the files are written.
        end_after: seconds without progress after which the process ends, with status 1. None: never.

    Raises:
        UserError: a value is not a number above 0.
    """

    priority = "HIGH"  # before hooks that may take long

    def __init__(self, seconds: float | None = 600.0, end_after: float | None = None):
        for name, value in (("seconds", seconds), ("end_after", end_after)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value > 0):
                raise UserError(f"{name} of WatchdogHook is {shown(value)}; allowed: numbers above 0, or None")
        self.seconds, self.end_after = seconds, end_after
        self.heart: Heartbeat | None = None  # while a training runs
        self.thread: Watchdog | None = None

    def before_train(self, runner: Any) -> None:
        rank, processes = get_rank(), get_world_size()
        if rank == 0:
            forget_heartbeats(runner.work_dir, processes)
        self.heart = Heartbeat(runner.work_dir, rank, min(PAUSE, (self.seconds or PAUSE) / 4))
        total = runner.iter + iterations_left(runner)
        self.heart.facts |= dict(processes=processes, limit=self.seconds, max_iters=total)
        if by_epoch(runner):
            self.heart.facts["max_epochs"] = runner.max_epochs
        if self.seconds is not None and not os.environ.get(OFF):
            stacks = runner.logger.log_file if rank == 0 else Path(runner.work_dir) / FOLDER / f"{rank}.txt"
            self.thread = Watchdog(self.heart, self.seconds, self.end_after, Path(stacks))
            self.thread.start()
        self.progress(runner, "starting", runner.iter, at_once=True)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if runner.iter % MEMORY_STEPS == 0:
            runner.message_hub.update_scalar("train/host_memory", resident("VmRSS") >> 20)
        if self.heart is not None and getattr(runner, "writer", None) is None:  # mmengine saves before it goes on
            self.heart.facts["saving"] = False
        begins = self.heart is not None and self.heart.facts.get("stage") != "training"
        self.progress(runner, "training", runner.iter + 1, runner.epoch + 1, at_once=begins)

    def before_val_epoch(self, runner: Any) -> None:
        self.progress(runner, "validation", runner.iter, at_once=True)

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.progress(runner, "validation", runner.iter)

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        if self.heart is not None:
            numbers = {name: value for name, value in (metrics or {}).items() if isinstance(value, int | float)}
            self.heart.facts["metrics"] = numbers
            self.progress(runner, "training", runner.iter, at_once=True)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        if self.heart is not None:
            self.heart.beat(at_once=True, saving=True)

    def after_save_checkpoint(self, runner: Any, path: Path) -> None:
        if self.heart is not None:
            info = runner.message_hub.runtime_info
            best = {name: value for name, value in info.items() if name.startswith("best_score")}
            self.heart.beat(at_once=True, saving=False, best=best)

    def after_train(self, runner: Any) -> None:
        self.end("ended")

    def end(self, stage: str) -> None:
        """Ends the watch. The file keeps ``stage``."""
        if self.thread is not None:
            self.thread.over.set()
            self.thread.join()
        if self.heart is not None:
            self.heart.beat(at_once=True, stage=stage, where="", saving=False)
        self.heart = self.thread = None

    def progress(self, runner: Any, stage: str, done: int, epoch: int | None = None, at_once: bool = False) -> None:
        """Takes note of ``done`` iterations in all, in ``epoch``. Without a training nothing happens."""
        if self.heart is None:
            return
        if self.thread is not None:
            self.thread.moved()
        facts: dict[str, Any] = dict(stage=stage, iter=done, progress=time.time(), where="")
        if "max_epochs" in self.heart.facts:
            facts["epoch"] = runner.epoch if epoch is None else epoch
        if times := step_times(runner, WINDOW):
            facts |= dict(step=times[0], loader=times[1])
        if loss := runner.message_hub.log_scalars.get("train/loss"):
            facts |= dict(loss=loss.mean(WINDOW))
        self.heart.beat(at_once, **facts)


class Watchdog(threading.Thread):
    """Looks whether a training goes on, beside that training.

    Args:
        heart: this process's file.
        seconds, end_after: as for :class:`WatchdogHook`.
        stacks: the file that gets the stacks of all threads.
    """

    def __init__(self, heart: Heartbeat, seconds: float, end_after: float | None, stacks: Path):
        super().__init__(name="watchdog", daemon=True)
        self.heart, self.seconds, self.end_after, self.stacks = heart, seconds, end_after, stacks
        self.over = threading.Event()
        self.moved()

    def moved(self) -> None:
        """Takes note that a step is finished."""
        self.last, self.next = time.monotonic(), self.seconds

    def run(self) -> None:
        pause = min(QUIET, self.seconds / 4, (self.end_after or self.seconds) / 4)
        while not self.over.wait(pause):
            idle = time.monotonic() - self.last
            if idle >= min(QUIET, self.seconds / 2):
                self.heart.beat(at_once=True, where=str(of_main_thread()))
            if idle >= self.next:
                self.next = 2 * idle
                self.report(idle)
            if self.end_after is not None and idle >= self.end_after:
                self.leave(idle)

    def report(self, idle: float) -> None:
        """Says where this process is. One that waits for others leaves the line to the first process."""
        where, rank = of_main_thread(), self.heart.facts["rank"]
        with contextlib.suppress(OSError):
            self.stacks.parent.mkdir(parents=True, exist_ok=True)
            with self.stacks.open("a") as file:
                file.write(f"no step finished for {idle:.0f} s; the stacks of all threads:\n")
                file.flush()
                faulthandler.dump_traceback(file, all_threads=True)
        if rank == 0 or where.what != WAITS_FOR_OTHERS:
            what = "batch of the validation" if self.heart.facts.get("stage") == "validation" else "step"
            done = f"rank {rank} finished no {what} for {idle:.0f} s after iteration {self.heart.facts['iter']}"
            self.say(f"{done}: {where}{self.others() if rank == 0 else ''}; stacks: {self.stacks}")

    def others(self) -> str:
        """The processes that are behind the others, or do something else than wait for them."""
        lines = lines_behind(read_heartbeats(self.heart.path.parent.parent))
        return "".join(f"; {line}" for line in lines if not line.startswith("rank 0 "))

    def leave(self, idle: float) -> None:
        self.say(
            f"no step finished for {idle:.0f} s, so rank {self.heart.facts['rank']} ends (end_after of WatchdogHook)"
        )
        self.heart.beat(at_once=True, stage="ended by the watchdog")
        for worker in multiprocessing.active_children():
            worker.kill()
        os._exit(1)

    @staticmethod
    def say(line: str) -> None:
        """A note of any process, while :func:`ziggurat.engine.console.say_note` is for the first one."""
        with contextlib.suppress(OSError, ValueError):
            print(f"note: {line}", file=sys.stderr, flush=True)


def lines_behind(heartbeats: dict[int, dict[str, Any]]) -> list[str]:
    """A clause for each process of several that the others wait for.

    Such a process stands still, and has finished fewer iterations than another, or does something else while another
    one waits. Or the process gave no sign of life for a long time. Of processes that go on, files of different age tell
    nothing.
    """
    most = max((facts.get("iter", 0) for facts in heartbeats.values()), default=0)
    newest = max((facts.get("time", 0) for facts in heartbeats.values()), default=0)
    waiting = [facts for facts in heartbeats.values() if WAITS_FOR_OTHERS in (facts.get("where") or "")]
    lines = []
    for rank, facts in heartbeats.items():
        where, done, silent = facts.get("where"), facts.get("iter", 0), newest - facts.get("time", newest)
        if silent > SILENT:
            lines.append(f"rank {rank} gave no sign of life for {silent:.0f} s, after iteration {done}")
        elif where and (done < most or (waiting and facts not in waiting)):
            lines.append(f"rank {rank} is behind, after iteration {done}: {where}")
    return lines


def note_end(runner: Any, error: BaseException) -> None:
    """Ends the watch of a training that an error or a signal ended."""
    if isinstance(error, Stopped):
        stage = f"failed: {error.fault}" if error.fault else f"stopped by {signal.Signals(error.signal).name}"
    elif isinstance(error, KeyboardInterrupt):
        stage = "stopped by SIGINT"
    else:
        stage = f"failed: {str(error) if isinstance(error, UserError) else one_line(error)}"
    for hook in runner.hooks:
        if isinstance(hook, WatchdogHook):
            hook.end(stage)

"""Trainings in forked processes: they tell what they did, and are killed."""

import contextlib
import importlib
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from save_points import SavePoints

from ziggurat.engine.run import build_training

LINGER = 12.0  # seconds in which the workers of a killed training must end, on a busy machine too
POLL = 0.005  # seconds


@HOOKS.register_module(force=True)
class Reports(Hook):
    """Appends what happens, and when, to a file that outlives the process: one JSON object a line, written at once."""

    file: int | None = None  # of this process

    def before_train(self, runner: Any) -> None:
        self.say(start=runner.iter)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.say(step=runner.iter + 1, loss=outputs["loss"].item().hex())

    @classmethod
    def say(cls, **event: Any) -> None:
        os.write(cls.file, (json.dumps({**event, "at": time.monotonic()}) + "\n").encode())


class Ended(NamedTuple):
    """How a process ended: its exit status, -9 after SIGKILL, its start and end by the clock, and what it reported."""

    status: int
    began: float
    ended: float
    events: list[dict[str, Any]]

    def last(self, name: str) -> Any:
        """The value of the last event with this name; None without one."""
        return next((event[name] for event in reversed(self.events) if name in event), None)


def run(cfg: Config, work_dir: Path, after: float | None = None, point: str | None = None, nth: int = 1) -> Ended:
    """Trains in a new process, from the last checkpoint if there is one.

    Args:
        after: seconds until the process gets SIGKILL; None lets it end by itself. Its workers get no signal.
        point, nth: the point of a save at which it ends itself, see :class:`SavePoints`.
    """
    events, log = work_dir.with_suffix(".events"), work_dir.with_suffix(".log")
    events.write_text("")
    sys.stdout.flush()
    began = time.monotonic()
    process = os.fork()
    if process == 0:
        train(cfg, work_dir, events, log, point, nth)
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            break
        if after is not None and time.monotonic() - began >= after:
            os.kill(process, signal.SIGKILL)
            _, status = os.waitpid(process, 0)
            break
        time.sleep(POLL)
    GROUPS[process] = time.monotonic()
    lines = [json.loads(line) for line in events.read_text().splitlines()]
    return Ended(os.waitstatus_to_exitcode(status), began, GROUPS[process], lines)


def train(cfg: Config, work_dir: Path, events: Path, log: Path, point: str | None, nth: int) -> None:
    """What the forked process does. It never returns."""
    os.setpgid(0, 0)
    said = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    Reports.file = os.open(events, os.O_WRONLY | os.O_APPEND)
    known = set(sys.modules)
    status = 1
    with contextlib.suppress(BaseException):
        try:
            torch.set_num_threads(1)
            SavePoints(Reports.say, point, nth).watch()
            build_training(cfg, work_dir, resume="auto", device="cpu").train()
            Reports.say(modules=sorted(set(sys.modules) - known))
            status = 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def import_all(modules: list[str]) -> None:
    """Imports what a training imported, so that later processes find it."""
    for name in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


GROUPS: dict[int, float] = {}  # the process groups of ended trainings, and when each ended, of time.monotonic()


def left_behind(wait: bool = False) -> int:
    """The processes of ended trainings that are still there after :data:`LINGER` seconds; these are killed.

    Args:
        wait: whether to wait for the groups whose time is not over yet.
    """
    there = living()
    ends = time.monotonic() + LINGER
    while wait and there & GROUPS.keys() and time.monotonic() < ends:
        time.sleep(0.1)
        there = living()
    late = [group for group, ended in GROUPS.items() if wait or time.monotonic() - ended > LINGER]
    for group in late:
        del GROUPS[group]
    for group in (found := there.intersection(late)):
        print(f"process group {group} is left: {states(group)}", file=sys.stderr, flush=True)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    return len(found)


def states(group: int) -> list[str]:
    """Process id, name, state and parent of the processes of a group, and where each waits in the kernel."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = stat.read_text().rpartition(")")
            if int(rest.split()[2]) == group:
                place = stat.with_name("wchan").read_text()
                found.append(f"{name}) state {rest.split()[0]} parent {rest.split()[1]} in {place}")
    return found


def living() -> set[int]:
    """The groups that have a process which is not a zombie."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
            if state != "Z":
                found.add(int(group))
    return found

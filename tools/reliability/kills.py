"""Trainings that are killed and resumed until their end, and what is compared after each kill and at the end."""

import contextlib
import gc
import itertools
import random
import statistics
import sys
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from trainings import TRAININGS, Training
from victims import Ended, import_all, left_behind, run

from backbones.errors import UserError
from backbones.weights import read_checkpoint
from backbones.weights.verify import verified
from ziggurat.engine.config import load_config
from ziggurat.engine.work_dir import LEFTOVER, WorkDir

PARTS = ("state_dict", "ema_state_dict", "optimizer", "param_schedulers")
COUNTS = ("trainings", "runs", "kills", "losses", "steps_lost", "half_files")
FAULTS = (
    "errors",  # runs that ended by themselves, but not well
    "checkpoints_damaged",
    "checkpoints_lost",  # recorded, and gone or passed over
    "losses_that_differ",
    "files_that_differ",  # at the end, by their content
    "kept_files_that_differ",  # by their names
    "processes_left",
)
COUNTED = ("iter", "epoch", "images", "seed")  # entries of "meta" that do not name the moment or the folder


class Course:
    """One training: its uninterrupted run, and as many killed and resumed runs as are asked for.

    Args:
        name: one of ``TRAININGS``.
        place: an empty folder.

    Attributes:
        found: what was counted, by the names in ``COUNTS`` and ``FAULTS``.
        faults: a line for each thing that was not as it must be.
    """

    def __init__(self, name: str, place: Path):
        training: Training = TRAININGS[name]
        self.name, self.place = name, place
        place.mkdir(parents=True)
        options = training.options_for(training.write_data(place / "data"))
        self.cfg = load_config(training.config, options)
        self.found: Counter[str] = Counter()
        self.faults: list[str] = []
        self.most_lost = 0  # steps
        import_all(self.uninterrupted("warm").last("modules"))
        gc.freeze()  # so that forked processes do not copy what they only read
        ended = self.uninterrupted("straight")
        self.losses: dict[int, str] = {event["step"]: event["loss"] for event in ended.events if "step" in event}
        self.kept = contents(place / "straight")
        self.starts, self.steps = deque([1.0], 8), deque([0.1], 60)  # seconds, of the last processes
        self.take_time(ended)

    def uninterrupted(self, name: str) -> Ended:
        ended = run(self.cfg, self.place / name)
        if ended.status:
            raise SystemExit((self.place / f"{name}.log").read_text())
        return ended

    @property
    def seconds(self) -> float:
        """The time of an uninterrupted run, if the machine is as busy as it was lately."""
        return statistics.mean(self.starts) + len(self.losses) * statistics.mean(self.steps)

    def take_time(self, ended: Ended) -> None:
        moments = [event["at"] for event in ended.events if "start" in event or "step" in event]
        self.starts.append((moments or [max(ended.ended, ended.began + self.starts[-1])])[0] - ended.began)
        self.steps.extend(after - before for before, after in itertools.pairwise(moments))

    def kill_at_random(self, kills: int, draw: random.Random) -> None:
        """Kills until there were so many: each process at a moment that is uniform over an uninterrupted run's time.

        A process that ends before its moment ends its training, and the next one begins.
        """
        while kills > 0:
            with self.training() as work_dir:
                while (ended := run(self.cfg, work_dir, after=draw.uniform(0, self.seconds))).status:
                    self.check(ended, work_dir, "at random")
                    kills -= 1
                    if kills == 0:
                        ended = run(self.cfg, work_dir)
                        break
                self.finish(ended, work_dir)

    def kill_at(self, points: list[tuple[str, int]]) -> list[str]:
        """Kills one process at each point. Gives the points that no whole training reaches."""
        left, unreached = list(points), []
        while left:
            with self.training() as work_dir:
                resumed = False
                while left and (ended := run(self.cfg, work_dir, point=left[0][0], nth=left[0][1])).status:
                    point, nth = left.pop(0)
                    self.check(ended, work_dir, f"{point}, time {nth}")
                    resumed = True
                if not left:
                    ended = run(self.cfg, work_dir)
                elif not resumed:
                    unreached.append(left.pop(0)[0])
                self.finish(ended, work_dir)
        return unreached

    @contextlib.contextmanager
    def training(self) -> Iterator[Path]:
        """A new work dir, which is removed after the training unless there is a fault."""
        self.found["trainings"] += 1
        before, work_dir = len(self.faults), self.place / f"run{self.found['trainings']}"
        self.recorded, self.best = 0, False
        yield work_dir
        if len(self.faults) == before:
            for path in work_dir.rglob("*.pth"):
                path.unlink()

    def fault(self, kind: str, said: str) -> None:
        self.found[kind] += 1
        self.faults.append(f"{self.name}, run {self.found['trainings']}: {said}")
        print(self.faults[-1], file=sys.stderr, flush=True)

    def check(self, ended: Ended, work_dir: Path, moment: str) -> None:
        """Looks at the files after a kill, and counts what was lost."""
        if ended.status != -9:
            self.fault("errors", f"{moment}: exit status {ended.status}, see {work_dir.with_suffix('.log')}")
            return
        self.found["kills"] += 1
        self.compare_losses(ended, moment)
        if name := ended.last("recorded"):
            self.recorded = int(name.rpartition("_")[2].removesuffix(".pth")) * self.steps_of(name)
        self.best |= ended.last("best") is not None
        self.found["half_files"] += sum(bool(LEFTOVER.fullmatch(path.name)) for path in work_dir.glob("*"))
        for path in work_dir.glob("*.pth"):
            if fault := verified(path).fault:
                self.fault("checkpoints_damaged", f"{moment}: {fault}")
        if self.best and not any(work_dir.glob("best_*.pth")):
            self.fault("checkpoints_lost", f"{moment}: the best checkpoint is gone")
        at = 0
        try:
            at = read_checkpoint(WorkDir(work_dir).last_checkpoint())["meta"]["iter"]
        except UserError as error:
            if self.recorded:
                self.fault("checkpoints_lost", f"{moment}: {error}")
        if at < self.recorded:
            self.fault("checkpoints_lost", f"{moment}: step {at} is the last, and {self.recorded} was recorded")
        lost = max(0, (ended.last("step") or ended.last("start") or 0) - at)
        self.found["steps_lost"] += lost
        self.most_lost = max(self.most_lost, lost)
        self.found["processes_left"] += left_behind()

    def steps_of(self, name: str) -> int:
        """How many steps the number in a checkpoint's name stands for."""
        return 1 if name.startswith("iter_") else len(self.losses) // self.cfg.train_cfg.max_epochs

    def compare_losses(self, ended: Ended, moment: str) -> None:
        self.found["runs"] += 1
        self.take_time(ended)
        start = ended.last("start")
        if start is not None and start < self.recorded:
            self.fault("checkpoints_lost", f"{moment}: began after step {start}, and {self.recorded} was recorded")
        for event in ended.events:
            if "step" in event:
                self.found["losses"] += 1
                if event["loss"] != self.losses[event["step"]]:
                    self.fault("losses_that_differ", f"{moment}: the loss of step {event['step']} differs")

    def finish(self, ended: Ended, work_dir: Path) -> None:
        """Compares a whole training with the uninterrupted one."""
        if ended.status:
            self.fault("errors", f"exit status {ended.status}, see {work_dir.with_suffix('.log')}")
            return
        self.compare_losses(ended, "at the end")
        ours = contents(work_dir)
        if ours.keys() != self.kept.keys():
            self.fault("kept_files_that_differ", f"kept are {sorted(ours)}, and not {sorted(self.kept)}")
        for name in ours.keys() & self.kept.keys():
            if where := first_difference(ours[name], self.kept[name], name):
                self.fault("files_that_differ", f"another value at {where}")
        if any(LEFTOVER.fullmatch(path.name) for path in work_dir.iterdir()):
            self.fault("kept_files_that_differ", "a half-written file is left at the end")


def contents(work_dir: Path) -> dict[str, Any]:
    """What must be equal in two runs, by the name of the file."""
    found: dict[str, Any] = {"last_checkpoint": Path((work_dir / "last_checkpoint").read_text()).name}
    for path in work_dir.glob("*.pth"):
        content = read_checkpoint(path)
        hub = content["message_hub"]["runtime_info"]
        found[path.name] = {
            **{part: content.get(part) for part in PARTS},
            "meta": {name: content["meta"].get(name) for name in COUNTED},
            "best": {name: value for name, value in hub.items() if name.startswith("best_score")},
        }
    return found


def first_difference(ours: Any, theirs: Any, name: str) -> str:
    """Where two trees of tensors and plain values differ first, bit for bit; "" if they are equal."""
    if isinstance(ours, torch.Tensor) and isinstance(theirs, torch.Tensor):
        return "" if ours.dtype == theirs.dtype and torch.equal(ours, theirs) else name
    if isinstance(ours, dict) and isinstance(theirs, dict):
        if ours.keys() != theirs.keys():
            return name
        pairs = ((key, ours[key], theirs[key]) for key in ours)
    elif isinstance(ours, list | tuple) and isinstance(theirs, list | tuple) and len(ours) == len(theirs):
        pairs = ((i, a, b) for i, (a, b) in enumerate(zip(ours, theirs, strict=True)))
    else:
        return "" if ours == theirs else name
    return next((where for key, a, b in pairs if (where := first_difference(a, b, f"{name}.{key}"))), "")

"""Images that cannot be read: counted, named, and left out up to a limit.

In training another image takes the place. In a validation the metrics leave the image out.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from backbones.errors import UserError, shorten
from backbones.files import replaced_file
from classification.data.samples import Samples
from engine.console import say_note

LIST = "unreadable.txt"  # in the work dir: the names of all unreadable training images, one a line
VAL_LIST = "unreadable_val.txt"  # the same for validation images
UNSCORED = -1  # the label of an item whose own image cannot be read, so that metrics leave the item out


class Unreadable:
    """The unreadable images of one data set. Workers of a data loader and their parent share the record.

    Args:
        samples: all images of the data set.
        share: the share of images that may be unreadable, from 0 to 1. None allows none.

    Raises:
        UserError: ``share`` is not from 0 to 1.
    """

    def __init__(self, samples: Samples, share: float | None):
        if share is not None and (isinstance(share, bool) or not 0 <= share <= 1):
            raise UserError(f"max_unreadable={share!r}; allowed: a share from 0 to 1, such as 0.001, or None")
        self.samples = samples
        self.flags: torch.Tensor | None = None
        if share is not None:
            self.allow(share)
        self.is_scored = False  # whether metrics score the images, so that none may stand for another
        self.list_file: Path | None = None  # the file that gets all names
        self.said = 0  # the number of images that a note has named

    def allow(self, share: float) -> None:
        """Lets so many images be unreadable, a share of all. Workers of a loader must not have started yet."""
        self.share = share
        self.flags = torch.zeros(len(self.samples), dtype=torch.uint8).share_memory_()

    @property
    def count(self) -> int:
        return 0 if self.flags is None else int(self.flags.count_nonzero())

    @property
    def names(self) -> list[str]:
        return [] if self.flags is None else [self.samples[index][0] for index in self.flags.nonzero().flatten()]

    def add(self, index: int, error: UserError) -> None:
        """Records an unreadable image.

        Raises:
            UserError: no image may be unreadable, or this one is one too many. Then all names are written.
        """
        if self.flags is None:
            raise error
        self.flags[index] = 1
        self.check(str(error))

    def check(self, reason: str = "") -> None:
        """Raises UserError, and writes all names, if there are more unreadable images than allowed."""
        total = len(self.samples)
        allowed = math.floor(self.share * total + 1e-9)  # 0.29 * 100 is 28.999...
        if self.count > allowed:
            rule = f"max_unreadable={self.share} allows {allowed}"
            reason = f" The last one: {reason}" if reason else ""
            raise UserError(f"{self.described()}; {rule}.{reason}")

    def described(self) -> str:
        """How many images are unreadable, and which. All names are written into the file."""
        names = self.names
        where = ""
        if self.list_file is not None:
            with replaced_file(self.list_file) as beside:
                beside.write_text("".join(f"{name}\n" for name in names), errors="surrogateescape")
            where = f" (all in {self.list_file})"
        kind = "validation" if self.is_scored else "training"
        return f"{len(names)} of {len(self.samples)} {kind} images cannot be read: {shorten(names)}{where}"


@HOOKS.register_module(force=True)
class UnreadableHook(Hook):
    """Says after each epoch which images could not be read. Their names are in the work dir.

    A validation within the training allows the share of unreadable images that the training set allows, unless its
    data set has a ``max_unreadable`` of its own. The processes of a run put their records together here, so the limit
    holds for all of them.
    """

    def before_train(self, runner: Any) -> None:
        shares = []
        for record in records(runner.train_dataloader.dataset):
            record.list_file = Path(runner.work_dir) / LIST
            shares.append(record.share)
        for record in records(validated(runner), all_of_them=bool(shares)):
            if record.flags is None:
                record.allow(max(shares))
            record.is_scored, record.list_file = True, Path(runner.work_dir) / VAL_LIST

    def after_train_epoch(self, runner: Any) -> None:
        for record in records(runner.train_dataloader.dataset):
            self.report(record)

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        for record in records(validated(runner)):
            self.report(record)

    def after_train(self, runner: Any) -> None:
        self.after_train_epoch(runner)  # a loop of iterations has no epochs

    def report(self, record: Unreadable) -> None:
        """Puts the processes' records together, and says what is new."""
        if get_world_size() > 1:
            flags = record.flags.clone()
            all_reduce(flags, "max")
            record.flags.copy_(flags)
        record.check()
        if record.count > record.said and is_main_process():
            say_note(f"skipped: {record.described()}")
        record.said = record.count


def validated(runner: Any) -> Any:
    """The data set of a run's validation; None if the run has none."""
    return runner.val_dataloader.dataset if runner.val_loop is not None else None


def records(dataset: Any, all_of_them: bool = False) -> Iterator[Unreadable]:
    """The records of a data set, and of those inside wrappers: those that may skip images, or all of them."""
    record = getattr(dataset, "unreadable", None)
    if isinstance(record, Unreadable) and (all_of_them or record.flags is not None):
        yield record
    inner = getattr(dataset, "dataset", None)
    for part in [*(getattr(dataset, "datasets", None) or []), *([] if inner is None else [inner])]:
        yield from records(part, all_of_them)

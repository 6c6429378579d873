"""Images that cannot be read: counted, named, and left out up to a limit.

In training another image takes the place. In a validation the metrics leave the image out.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import BaseDataset
from mmengine.dist import all_reduce, get_world_size, is_main_process
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.structures import BaseDataElement

from backbones.errors import UnreadableImage, UserError, shorten
from backbones.files import replaced_file
from ziggurat.engine.console import say_note

LIST = "unreadable.txt"  # in the work dir: the names of all unreadable training images, one a line
VAL_LIST = "unreadable_val.txt"  # the same for validation images
SHARE = 0.001  # of the images of a data set of mm's that may be unreadable, if the config does not say


class Unreadable:
    """The unreadable images of one data set. Workers of a data loader and their parent share the record.

    Args:
        samples: all images of the data set, tuples that begin with the name.
        share: the share of images that may be unreadable, from 0 to 1. None allows none.

    Raises:
        UserError: ``share`` is not from 0 to 1.
    """

    def __init__(self, samples: Sequence[Any], share: float | None):
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
        if runner.val_loop is not None:
            runner.val_loop.evaluator = scored(runner.val_loop.evaluator)

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


class SkippingItems:
    """``prepare_data`` of a data set of mm's: the next image takes the place of an unreadable one.

    In a validation the samples of such an item have ``unscored=True`` in their metainfo, and metrics leave them out.

    Args:
        dataset: an mmengine BaseDataset. Its ``unreadable`` is the record.
    """

    def __init__(self, dataset: Any):
        self.dataset = dataset

    def __call__(self, index: int) -> Any:
        dataset, record = self.dataset, self.dataset.unreadable
        for step in range(len(dataset)):
            place = (index + step) % len(dataset)
            try:
                item = type(dataset).prepare_data(dataset, place)
            except UnreadableImage as error:
                record.add(place, error)
                continue
            if step and record.is_scored:
                samples = item["data_samples"]
                for sample in samples if isinstance(samples, list) else [samples]:
                    sample.set_metainfo(dict(unscored=True))
            return item
        raise UserError(f"none of {len(dataset)} images can be read, such as {record.samples[index][0]}")


class ImagePaths(Sequence):
    """The paths of the images of a data set of mm's, as tuples of one."""

    def __init__(self, dataset: Any):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> tuple[str]:
        return (str(self.dataset.get_data_info(int(index))["img_path"]),)


def skip_unreadable(dataset: Any, share: float | None) -> None:
    """Lets data sets of mm's skip images, also inside wrappers, in place. Other data sets stay.

    Args:
        share: the share of images that may be unreadable; None allows none.
    """
    for part in [*(getattr(dataset, "datasets", None) or []), getattr(dataset, "dataset", None)]:
        if part is not None:
            skip_unreadable(part, share)
    if isinstance(dataset, BaseDataset) and share is not None and not hasattr(dataset, "unreadable"):
        dataset.unreadable = Unreadable(ImagePaths(dataset), share)
        dataset.prepare_data = SkippingItems(dataset)


class ScoredEvaluator(Evaluator):
    """An evaluator whose metrics do not see what stands for unreadable images."""

    def process(self, data_samples: Sequence[Any], data_batch: Any = None) -> None:
        kept = [i for i, sample in enumerate(data_samples) if not is_unscored(sample)]
        if len(kept) < len(data_samples):
            if not kept:
                return
            data_samples = [data_samples[i] for i in kept]
            if isinstance(data_batch, dict):
                data_batch = {name: [values[i] for i in kept] for name, values in data_batch.items()}
        super().process(data_samples, data_batch)


def scored(evaluator: Any) -> Any:
    """The same metrics in a :class:`ScoredEvaluator`. An evaluator of another kind than mmengine's own stays."""
    if type(evaluator) is not Evaluator:
        return evaluator
    made = ScoredEvaluator(evaluator.metrics)
    made.dataset_meta = evaluator.dataset_meta
    return made


def is_unscored(sample: Any) -> bool:
    """Whether a prediction is of an image that stands for an unreadable one."""
    return isinstance(sample, BaseDataElement) and bool(sample.get("unscored", False))


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

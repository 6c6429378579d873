"""The best and the worst images of an evaluation: kept while it runs, and drawn at its end."""

import time
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.dataset import DefaultSampler
from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from torch.utils.data import SequentialSampler

from backbones.files import replaced_file, write_json
from ziggurat.engine.disk_faults import dispensable
from ziggurat.engine.draw import enlarged
from ziggurat.engine.sheet import COLUMNS, SQUARE, Tile, draw_sheet
from ziggurat.engine.unreadable import is_unscored

LEAST = 192  # pixels; narrower pictures of a report are enlarged
PAUSE = 30.0  # seconds between two pictures of a training, so that drawing takes no noticeable part of it


class Judged(NamedTuple):
    """One image of an evaluation. A tuple, so that the worst come first when sorted.

    Attributes:
        quality: of the prediction; higher is better.
        index: in the data set.
        facts: what a task needs to describe the image.
    """

    quality: float
    index: int
    facts: Any = None


class Extremes:
    """The ``count`` best and worst of many images.

    Attributes:
        best: the best image first.
        worst: the worst image first. With few images some are in both; see ``apart``.
    """

    def __init__(self, count: int):
        self.count = count
        self.best: list[Judged] = []
        self.worst: list[Judged] = []

    def add(self, images: Iterable[Judged]) -> None:
        """Adds images. One that was added before counts once."""
        images = list(images)
        lowest = {one.index: one for one in (*self.worst, *images)}.values()
        highest = {one.index: one for one in (*self.best, *images)}.values()
        self.worst = sorted(lowest, key=lambda one: one[:2])[: self.count]
        self.best = sorted(highest, key=lambda one: (-one.quality, one.index))[: self.count]

    def apart(self) -> "Extremes":
        """A copy that has no image twice: where there are few images, the better half is the best."""
        both = sorted({one.index: one for one in (*self.worst, *self.best)}.values(), key=lambda one: one[:2])
        copy = Extremes(self.count)
        middle = max(len(both) - self.count, -(-len(both) // 2))
        copy.worst, copy.best = both[: min(self.count, middle)], both[middle:][::-1]
        return copy


class ExtremesHook(Hook):
    """Shows the best and the worst images of each validation and test in the work dir. A task has a subclass.

    ``val_images.png`` and ``test_images.png`` are the pictures; files of the same names with .json list the images. In
    a training the picture of a validation may wait for half a minute, or for the end. Data that come in an unknown
    order have no picture.

    The list of a report has up to ``reported`` images of either kind. Each names its pictures, its caption, and the
    values by which the report's page filters.

    Args:
        count: number of the best images, and of the worst.
        folder: of a report, where the files are written; None: into the work dir.

    Attributes:
        titles: above the worst and above the best images.
        size, columns: as for ``draw_sheet``.
        reported: number of the best images of a report, and of the worst.
    """

    titles = {"worst": "The worst images, worst first", "best": "The best images, best first"}
    size, columns = SQUARE, COLUMNS
    reported = 24

    def __init__(self, count: int = 8, folder: str | None = None):
        self.count = count
        self.folder = folder
        self.drawn = -PAUSE  # time.monotonic() of the last picture
        self.order: Sequence[int] = ()  # index of each image that this process evaluates, in the order of evaluation
        self.found: Extremes | None = None  # what is not drawn yet

    @abstractmethod
    def judge(self, loop: Any, outputs: Sequence[Any], indices: Sequence[int]) -> list[tuple[float, Any] | None]:
        """Quality and facts of each prediction of a batch, as for :class:`Judged`; [] if the loop does not tell.

        None stands for an image that is not judged.

        Args:
            loop: mmengine's loop of the validation or the test.
            outputs: what the model's ``val_step`` or ``test_step`` returned.
            indices: of these images in the data set.
        """

    @abstractmethod
    def tile(self, dataset: Any, image: Judged) -> Tile:
        """An image of the data set as it is shown."""

    @abstractmethod
    def describe(self, dataset: Any, image: Judged) -> dict[str, Any]:
        """An image in JSON's types, beside its index and its quality."""

    def marks(self, dataset: Any, image: Judged) -> dict[str, list[str]]:
        """The values by which the filters of a report's page show an image: filter -> values."""
        return {}

    def before_val_epoch(self, runner: Any) -> None:
        self.begin(runner.val_loop)

    def before_test_epoch(self, runner: Any) -> None:
        self.begin(runner.test_loop)

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.take(runner.val_loop, outputs)

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.take(runner.test_loop, outputs)

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        self.unite()
        if time.monotonic() - self.drawn >= PAUSE:
            with dispensable("the best and worst images"):
                self.draw(runner.work_dir, runner.val_loop, "val")

    def after_train(self, runner: Any) -> None:
        if runner.val_loop is not None:
            with dispensable("the best and worst images"):
                self.draw(runner.work_dir, runner.val_loop, "val")

    def after_test_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        self.unite()
        self.draw(runner.work_dir, runner.test_loop, "test")

    def begin(self, loop: Any) -> None:
        sampler = loop.dataloader.sampler
        self.order = list(sampler) if isinstance(sampler, DefaultSampler | SequentialSampler) else ()
        self.place, self.found = 0, Extremes(max(self.count, self.reported) if self.folder else self.count)

    def take(self, loop: Any, outputs: Sequence[Any]) -> None:
        if self.order:
            indices = self.order[self.place : self.place + len(outputs)]
            self.place += len(outputs)
            judged = self.judge(loop, outputs, indices)
            scored = [not is_unscored(output) for output in outputs]
            pairs = [(index, one) for index, one, own in zip(indices, judged, scored) if own and one is not None]
            self.found.add(Judged(quality, index, facts) for index, (quality, facts) in pairs)

    def unite(self) -> None:
        """Gathers what the processes have found."""
        for other in all_gather_object((self.found.best, self.found.worst)):
            self.found.add(one for part in other for one in part)

    def draw(self, work_dir: str | Path, loop: Any, split: str) -> None:
        """Writes picture and list, in the first process, unless they are there."""
        found, self.found = self.found, None
        if not is_main_process() or found is None or not found.worst:
            return
        found, dataset, folder = found.apart(), loop.dataloader.dataset, Path(self.folder or work_dir)
        blocks = {"worst": found.worst, "best": found.best}
        tiles = {name: [self.tile(dataset, one) for one in block] for name, block in blocks.items()}
        with replaced_file(folder / f"{split}_images.png") as beside:
            sheet = [(self.titles[name], some[: self.count]) for name, some in tiles.items()]
            draw_sheet(sheet, self.size, self.columns).save(beside, "PNG")
        lists = {
            name: [{"index": one.index, "quality": one.quality, **self.describe(dataset, one)} for one in block]
            for name, block in blocks.items()
        }
        for name, entries in lists.items() if self.folder else ():
            for number, (entry, one, tile) in enumerate(zip(entries, blocks[name], tiles[name], strict=True), 1):
                entry["pictures"] = save_parts(tile, folder, f"{split}_images/{name}_{number:02}")
                entry["caption"], entry["filters"] = list(tile.lines), self.marks(dataset, one)
        write_json(folder / f"{split}_images.json", lists)
        self.drawn = time.monotonic()


def save_parts(tile: Tile, folder: Path, start: str) -> dict[str, str]:
    """Saves the pictures of a tile, and returns their titles and the names of the files below the folder."""
    files = {}
    for number, (title, image) in enumerate((tile.parts or {"image": tile.image}).items(), 1):
        files[title] = f"{start}_{number}.jpg"
        with replaced_file(folder / files[title]) as beside:
            enlarged(image, LEAST)[0].save(beside, "JPEG", quality=88)
    return files


def show_images_in(cfg: Any, hook: str, folder: str | Path) -> None:
    """Makes a config's test write its best and worst images into a folder, in place; ``hook`` is the task's type."""
    hooks = cfg.get("default_hooks") or {}
    images = {**(hooks.get("images") or {}), "type": hook, "folder": str(folder)}
    cfg.default_hooks = {**hooks, "images": images}

"""Data set formats: reading class names from the files, and checking the files before a run.

A format belongs to a class of data sets and its subclasses. Another format is one file::

    @DATASETS.register_module()
    class MyDataset(BaseDetDataset): ...

    @register_format(MyDataset)
    class MyFormat(Format): ...

A config names that file: ``custom_imports = dict(imports=["detection", "my_file"])``.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from ziggurat.engine.findings import Finding, follow
from ziggurat.engine.splits import SPLITS, datasets_of

FORMATS: dict[type, "Format"] = {}


class Format:
    """A data set format. Every method takes the config of one data set. The defaults read and check nothing.

    Attributes:
        counts_pixels: whether :meth:`counts` decodes every mask.
    """

    counts_pixels = False

    def classes(self, dataset: Any) -> tuple[str, ...] | None:
        """The class names in the files, in the order of the labels; None if there are no files.

        Raises:
            UserError: the files are not of this format.
        """
        return None

    def set_classes(
        self, dataset: Any, names: tuple[str, ...], palette: list[tuple[int, int, int]], replace: bool = False
    ) -> None:
        """Writes class names and colours into the config.

        Args:
            dataset: its config.
            names: the class names.
            palette: RGB colours, 0..255. A palette of the config stays if the config has a colour for each name.
            replace: replace the classes that the config names, rather than keep them.

        Raises:
            UserError: the names are to be replaced, and the data set takes no other names.
        """
        given = dataset.get("metainfo") or {}
        old = given.get("classes")
        if old is None or (replace and (isinstance(old, str) or tuple(old) != tuple(names))):
            kept = given.get("palette") or ()
            colours = kept if len(kept) == len(names) else palette
            dataset.metainfo = dict(given, classes=tuple(names), palette=colours)

    def counts(self, dataset: Any) -> list[int] | None:
        """How many labels each class has in the files, in the order of the classes; None if this is not known.

        Raises:
            UserError: the files are not of this format.
        """
        return None

    def complete_evaluator(self, dataset: Any, evaluator: Any) -> None:
        """Writes into an evaluator's config the values that follow from its data set, such as the annotation file."""

    def images(self, dataset: Any) -> list[Path] | None:
        """The image files of a data set; None if they are no files, or not known.

        Raises:
            UserError: the files are not of this format.
        """
        return None

    def findings(self, dataset: Any, split: str, thorough: bool = False, decode: bool = False) -> Iterator[Finding]:
        """What is odd in the files of a data set, in the order in which a training would meet it.

        Args:
            dataset: its config.
            split: ``"train"``, ``"val"`` or ``"test"``.
            thorough: look at every entry and file, rather than at what takes seconds. No image is decoded.
            decode: with ``thorough``, decode masks and maps, too.
        """
        return iter(())

    def check(self, dataset: Any, split: str) -> None:
        """Looks at the files before a run, and says warnings.

        Args:
            dataset: its config.
            split: ``"train"``, ``"val"`` or ``"test"``.

        Raises:
            UserError: something is missing, empty or malformed; the message names the file.
        """
        follow(self.findings(dataset, split))


def register_format(*datasets: type) -> Callable[[type[Format]], type[Format]]:
    """A class decorator that registers a format for classes of data sets and their subclasses."""

    def register(made: type[Format]) -> type[Format]:
        FORMATS.update(dict.fromkeys(datasets, made()))
        return made

    return register


def format_of(dataset: Any, scope: str) -> Format | None:
    """The format of a data set's class, or of the nearest base class that has a format; None if no format is known.

    Args:
        dataset: the config; ``type`` is a name, with or without a scope, or a class.
        scope: where names without a scope are looked up, e.g. ``"mmdet"``.
    """
    kind = class_of(dataset, scope)
    return next((FORMATS[base] for base in kind.__mro__ if base in FORMATS), None) if kind else None


def class_of(dataset: Any, scope: str) -> type | None:
    """The class that a data set's config names; None for an unknown class. Building the data set raises for it."""
    kind = dataset.get("type")
    if isinstance(kind, str):
        try:
            kind = DATASETS.get(kind if "." in kind else f"{scope}.{kind}")
        except RuntimeError:
            return None
    return kind if isinstance(kind, type) else None


def formats_of(cfg: Any, split: str, scope: str) -> Iterator[tuple[Any, Format]]:
    """(config, format) for each data set of a split whose format is known."""
    for dataset in datasets_of(cfg, split):
        found = format_of(dataset, scope)
        if found is not None:
            yield dataset, found


def choose_classes(cfg: Any, scope: str, names: tuple[str, ...], palette: list[tuple[int, int, int]]) -> None:
    """Gives the classes that a user chose to every data set of a config, in place of classes that it names.

    mm's data sets take classes as ``metainfo``, also those whose format is not known. Other data sets of unknown format
    stay.
    """
    for split in SPLITS:
        for dataset in datasets_of(cfg, split):
            kind = class_of(dataset, scope)
            is_of_mm = kind is not None and issubclass(kind, BaseDataset)
            found = format_of(dataset, scope) or (Format() if is_of_mm else None)
            if found is not None:
                found.set_classes(dataset, names, palette, replace=True)

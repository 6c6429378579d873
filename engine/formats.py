"""Data set formats: the class names that the files have, and checks of the files before a run.

A format belongs to a class of data sets, and serves the subclasses too. Another format is one file::

    @DATASETS.register_module()
    class MyDataset(BaseDetDataset): ...

    @register_format(MyDataset)
    class MyFormat(Format): ...

A config names that file: ``custom_imports = dict(imports=["detection", "my_file"])``.
"""

from collections.abc import Callable, Iterator
from typing import Any

from mmengine.registry import DATASETS

from engine.splits import datasets_of

FORMATS: dict[type, "Format"] = {}


class Format:
    """What a data set format offers. Every method takes the config of one data set; the defaults know nothing."""

    def classes(self, dataset: Any) -> tuple[str, ...] | None:
        """The names of the classes as the files have them, in the order of the labels; None where there is no data.

        Raises:
            UserError: the files are there but are not of this format.
        """
        return None

    def set_classes(self, dataset: Any, names: tuple[str, ...], palette: list[tuple[int, int, int]]) -> None:
        """Writes class names and colours into the config, unless it names classes of its own."""
        given = dataset.get("metainfo") or {}
        if given.get("classes") is None:
            dataset.metainfo = dict(palette=palette) | given | dict(classes=tuple(names))

    def complete_evaluator(self, dataset: Any, evaluator: Any) -> None:
        """Writes into an evaluator's config what follows from the data set that it evaluates on."""

    def check(self, dataset: Any, split: str) -> None:
        """Looks at the files before a run.

        Args:
            dataset: its config.
            split: ``"train"``, ``"val"`` or ``"test"``.

        Raises:
            UserError: something is missing, empty or malformed; the message names the file.
        """


def register_format(*datasets: type) -> Callable[[type[Format]], type[Format]]:
    """Makes a format known for classes of data sets and their subclasses; a class decorator."""

    def register(made: type[Format]) -> type[Format]:
        FORMATS.update(dict.fromkeys(datasets, made()))
        return made

    return register


def format_of(dataset: Any, scope: str) -> Format | None:
    """The format of a data set's config: that of its class, or of the nearest base class that has one.

    Args:
        dataset: the config; ``type`` is a name, with or without a scope, or a class.
        scope: where names without a scope are looked up, e.g. ``"mmdet"``.
    """
    kind = class_of(dataset, scope)
    return next((FORMATS[base] for base in kind.__mro__ if base in FORMATS), None) if kind else None


def class_of(dataset: Any, scope: str) -> type | None:
    """The class that a data set's config names; None for an unknown one, which building the data set then names."""
    kind = dataset.get("type")
    if isinstance(kind, str):
        try:
            kind = DATASETS.get(kind if "." in kind else f"{scope}.{kind}")
        except RuntimeError:
            return None
    return kind if isinstance(kind, type) else None


def formats_of(cfg: Any, split: str, scope: str) -> Iterator[tuple[Any, Format]]:
    """(config of a data set, its format) of a split, for the data sets whose format is known."""
    for dataset in datasets_of(cfg, split):
        found = format_of(dataset, scope)
        if found is not None:
            yield dataset, found

"""What the formats for classification have in common: writing classes into a config, and the check before a run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from backbones.errors import UserError, arguments_of, shorten
from classification.data.images import SplitImages
from ziggurat.engine.findings import UNSEEN, UNUSABLE, Finding
from ziggurat.engine.formats import Format, class_of
from ziggurat.engine.shown import Bars
from ziggurat.engine.splits import under_root

UNSEEN["images"] = "the images or their classes cannot be read"
SCOPE = "mmengine"


class LabelledFormat(Format):
    """The format of a subclass of ``SplitImages``. A subclass of this one reads the class names."""

    def set_classes(self, dataset: Any, names: tuple[str, ...], palette: Any, replace: bool = False) -> None:
        """Writes class names into the config. Chosen names leave out the images of other classes."""
        if replace or dataset.get("classes") is None:
            dataset.classes = list(names)
        if replace:
            dataset.setdefault("skip_others", True)

    def images(self, dataset: Any) -> list[Path] | None:
        """The files; None for images inside other files."""
        paths = [Path(name) for name, _ in listed(dataset).samples]
        return paths if paths and paths[0].is_file() else None

    def counts(self, dataset: Any) -> list[int]:
        """How many images each class has. No image is decoded."""
        found = listed(dataset)
        return np.bincount(found.samples.labels, minlength=len(found.classes)).tolist()

    def findings(self, dataset: Any, split: str, thorough: bool = False, decode: bool = False) -> Iterator[Finding]:
        """Lists the images and their classes. No image is decoded.

        A training refuses files that are missing, empty or malformed, labels outside the classes, and classes without
        training images.
        """
        try:
            found = listed(dataset)
        except UserError as error:
            yield Finding("images", UNUSABLE, str(error))
            return
        seen = set(found.samples.labels.tolist())
        empty = [name for index, name in enumerate(found.classes) if index not in seen]
        if empty and split == "train":
            where = under_root(dataset, dataset.get("folder") or "")
            text = f"{where}: no images for {len(empty)} of {len(found.classes)} classes: {shorten(empty)}"
            bars = Bars("images of each class in train", found.classes, self.counts(dataset), frozenset(empty))
            yield Finding("class-empty", UNUSABLE, text, count=len(empty), views=((bars,),))


def listed(dataset: Any) -> SplitImages:
    """The data set of a config, without its transform. No image is decoded.

    Raises:
        UserError: as the data set; or a value is of another type than the data set takes.
    """
    kind = class_of(dataset, SCOPE)
    needed = set(arguments_of(kind)) - {"transform", "in_memory"}  # building the run names unknown arguments
    try:
        return kind(**{key: value for key, value in dataset.items() if key in needed})
    except TypeError as error:
        raise UserError(f"{kind.__name__}: a value of the config is of another type: {error}") from error

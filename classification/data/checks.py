"""What the formats for classification have in common: writing classes into a config, and the check before a run."""

from typing import Any

from backbones.errors import UserError, arguments_of, shorten
from engine.formats import Format, class_of
from engine.splits import under_root

SCOPE = "mmengine"


class LabelledFormat(Format):
    """The format of a subclass of ``SplitImages``. A subclass of this one reads the class names."""

    def set_classes(self, dataset: Any, names: tuple[str, ...], palette: Any, replace: bool = False) -> None:
        """Writes class names into the config. Chosen names leave out the images of other classes."""
        if replace or dataset.get("classes") is None:
            dataset.classes = list(names)
        if replace:
            dataset.setdefault("skip_others", True)

    def check(self, dataset: Any, split: str) -> None:
        """Lists the images and their classes. No image is decoded.

        Raises:
            UserError: files are missing, empty or malformed, a label is outside the classes, or a class has no training
                images.
        """
        kind = class_of(dataset, SCOPE)
        needed = set(arguments_of(kind)) - {"transform", "in_memory"}  # building the run names unknown arguments
        found = kind(**{key: value for key, value in dataset.items() if key in needed})
        seen = set(found.samples.labels.tolist())
        empty = [name for index, name in enumerate(found.classes) if index not in seen]
        if empty and split == "train":
            where = under_root(dataset, dataset.get("folder") or "")
            raise UserError(f"{where}: no images for {len(empty)} of {len(found.classes)} classes: {shorten(empty)}")

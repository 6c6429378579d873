"""Image sets of Hugging Face ``datasets``, by their name or from a folder."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from backbones.errors import UserError, unknown
from classification.data.checks import LabelledFormat
from classification.data.images import SplitImages, decoded
from classification.data.samples import Samples, check_label, class_indices, numbered_classes
from ziggurat.engine.formats import register_format

PARTS = {"val": ("val", "validation", "valid", "test")}  # names of the split, the first that exists


class HubImages(SplitImages):
    """Images of a Hugging Face data set. Our reader decodes them.

    ``data_root`` is a name such as ``"uoft-cs/cifar10"``, a folder that ``save_to_disk`` wrote, or a folder that
    ``load_dataset`` reads. ``folder`` is the split: ``"train"``, or ``"val"``, which stands for the first of val,
    validation, valid, test.

    Args:
        subset: the configuration of a data set that has several.
        image, label: the columns. By default the first column of images, and the first one of class labels, else a
            column ``label``.
        **arguments: those of :class:`SplitImages`.

    Raises:
        UserError: ``datasets`` is not installed, the data set cannot be loaded, or it has no such split or column.
    """

    def __init__(
        self,
        *args: Any,
        subset: str | None = None,
        image: str | None = None,
        label: str | None = None,
        **arguments: Any,
    ):
        self.subset, self.image, self.label = subset, image, label
        super().__init__(*args, **arguments)

    def find(self, classes: list[str] | None, skip_others: bool) -> tuple[list[str], Samples]:
        name, where = self.data_root, f"{self.data_root}, {self.folder}"
        table = load_split(name, self.folder, self.subset)
        self.image, self.label = choose_columns(table, name, self.image, self.label)
        names, labels = names_and_labels(table, self.label, where)
        found = class_indices([names[i] for i in labels], classes or names, where, skip_others)
        self.rows = np.flatnonzero(found >= 0)
        self.table = table.select_columns([self.image]).cast_column(self.image, undecoded())
        return classes or names, Samples((f"{name}/{self.folder}:{row}", int(found[row])) for row in self.rows)

    def read(self, index: int) -> Image.Image | Tensor:
        found = self.table[int(self.rows[index])][self.image]
        if found is None or not (found["bytes"] or found["path"]):
            raise UserError(f"no image in {self.samples[index][0]}")
        name = found["path"] if not found["bytes"] else self.samples[index][0]
        return decoded(name, found["bytes"], self.reading)


def import_datasets() -> Any:
    try:
        import datasets
    except ImportError:
        raise UserError("data sets of Hugging Face need datasets: pip install datasets") from None
    return datasets


def undecoded() -> Any:
    return import_datasets().Image(decode=False)


def load_split(data_root: str, folder: str, subset: str | None = None) -> Any:
    """One split as a table of ``datasets``; UserError if it cannot be loaded or does not exist."""
    datasets = import_datasets()
    datasets.disable_progress_bars()
    try:
        if any((Path(data_root) / file).is_file() for file in ("dataset_dict.json", "state.json")):
            found = datasets.load_from_disk(data_root)
        else:
            found = datasets.load_dataset(data_root, subset)
    except Exception as error:  # network, names, files: each has errors of its own
        reason = " ".join((str(error) or type(error).__name__).split())[:200]
        raise UserError(f"data set {data_root} cannot be loaded: {reason}") from None
    if not isinstance(found, dict):  # one split without a name
        return found
    wanted = next((name for name in PARTS.get(folder, (folder,)) if name in found), None)
    if wanted is None:
        raise unknown(f"split of {data_root}", folder, found)
    return found[wanted]


def choose_columns(table: Any, name: str, image: str | None, label: str | None) -> tuple[str, str]:
    """The columns of images and labels; UserError if a name is no column, or there is no column of the kind."""
    datasets = import_datasets()
    for option, column in (("image", image), ("label", label)):
        if column is not None and column not in table.features:
            raise unknown(f"column of {name} ({option})", column, table.features)
    image = image or next((key for key, kind in table.features.items() if isinstance(kind, datasets.Image)), None)
    labels = [key for key, kind in table.features.items() if isinstance(kind, datasets.ClassLabel)]
    label = label or next(iter(labels), "label" if "label" in table.features else None)
    if image is None or label is None:
        what = "images" if image is None else "class labels"
        raise UserError(f"{name} has no column of {what}; its columns: {', '.join(table.features)}")
    return image, label


def names_and_labels(table: Any, column: str, where: str) -> tuple[list[str], list[int]]:
    """The class names of a column, and the class index of each row."""
    kind, labels = table.features[column], list(table[column])
    if isinstance(kind, import_datasets().ClassLabel):
        names = list(kind.names)
    elif all(isinstance(label, int) for label in labels):
        names = numbered_classes(labels, where)
    elif all(isinstance(label, str) for label in labels):
        names = sorted(set(labels))
        labels = [names.index(label) for label in labels]
    else:
        raise UserError(f"{where}: column {column} is of type {kind}; allowed: class labels, integers, texts")
    for row, label in enumerate(labels):
        check_label(-1 if label is None else label, len(names), f"{where}, row {row}")
    return names, labels


@register_format(HubImages)
class HubFormat(LabelledFormat):
    """A data set of Hugging Face."""

    def classes(self, dataset: Any) -> tuple[str, ...] | None:
        table = load_split(dataset.data_root, dataset.folder, dataset.get("subset"))
        _, label = choose_columns(table, dataset.data_root, dataset.get("image"), dataset.get("label"))
        return tuple(names_and_labels(table, label, f"{dataset.data_root}, {dataset.folder}")[0])

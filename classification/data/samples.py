"""The list of a data set's images: their names and classes, packed."""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from backbones.errors import UserError, shorten

UNSCORED = -1  # the label of an item whose own image cannot be read, so that metrics leave the item out


class Samples(Sequence):
    """(name, class index) of every image. A name is a path, or another text that finds the image.

    The names lie in one piece of memory. Workers of a data loader share that piece with their parent. A list of Python
    objects would be copied into every worker, since reading an object changes its reference count.
    """

    def __init__(self, pairs: Iterable[tuple[str, int]]):
        names, labels = [], []
        for name, label in pairs:
            names.append(os.fsencode(name))
            labels.append(label)
        self.text = b"".join(names)
        self.ends = np.cumsum([len(name) for name in names], dtype=np.int64)
        self.labels = np.array(labels, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        start = self.ends[index - 1] if index else 0
        return os.fsdecode(self.text[start : self.ends[index]]), int(self.labels[index])

    def listing(self, root: str) -> Iterator[bytes]:
        """All names, as they are below the folder ``root``, and all labels: the same for the same images elsewhere."""
        yield self.text.replace(os.fsencode(root.rstrip("/") + "/"), b"")
        yield self.labels.tobytes()


def class_indices(names: Sequence[str], classes: Sequence[str], where: str, skip_others: bool = False) -> np.ndarray:
    """The class index of each image, by the name of its class.

    Args:
        names: the class name of each image.
        classes: all class names, in the order of their indices.
        where: the file or folder, for the message.
        skip_others: give -1 to a class that ``classes`` does not name, rather than refuse it.

    Raises:
        UserError: an image has a class that ``classes`` does not name.
    """
    index = {name: i for i, name in enumerate(classes)}
    unknown = sorted(set(names) - set(index))
    if unknown and not skip_others:
        raise UserError(f"{where} has classes that training does not know: {shorten(unknown)}")
    return np.array([index.get(name, -1) for name in names], dtype=np.int64)


def numbered_classes(labels: Iterable[int], where: str) -> list[str]:
    """The names "0", "1", ... of classes that have numbers only, up to the largest number.

    Raises:
        UserError: a number is negative, or there is no number.
    """
    found = set(labels)
    if not found:
        raise UserError(f"no images in {where}")
    if min(found) < 0:
        raise UserError(f"{where}: label {min(found)}; allowed: 0 for the first class, 1, 2, ...")
    return [str(label) for label in range(max(found) + 1)]


def check_label(label: int, count: int, where: str) -> None:
    """Raises UserError for a class index outside the classes. ``where`` names the file and line."""
    if not 0 <= label < count:
        raise UserError(f"{where}: label {label}; allowed: 0 to {count - 1}, since there are {count} classes")

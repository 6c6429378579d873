"""CIFAR-10 and CIFAR-100, in the Python files of their authors (https://www.cs.toronto.edu/~kriz/cifar.html)."""

import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from backbones.errors import UserError
from classification.data.checks import LabelledFormat
from classification.data.images import SplitImages
from classification.data.samples import Samples, check_label, class_indices
from ziggurat.engine.formats import register_format


class Layout(NamedTuple):
    """The files of one data set, and the keys in them."""

    folder: str  # where the archive unpacks to
    train: tuple[str, ...]
    test: tuple[str, ...]
    meta: str
    names: str  # key in the meta file
    labels: str  # key in the other files


BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
LAYOUTS = (
    Layout("cifar-10-batches-py", BATCHES, ("test_batch",), "batches.meta", "label_names", "labels"),
    Layout("cifar-100-python", ("train",), ("test",), "meta", "fine_label_names", "fine_labels"),
)
# The only globals in the files: they rebuild an array.
ALLOWED = {
    (module, name)
    for core in ("numpy.core", "numpy._core")
    for module, name in ((f"{core}.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype"))
} | {("_codecs", "encode")}


class CifarImages(SplitImages):
    """The 32x32 images of CIFAR-10 or CIFAR-100, from the files ``data_batch_1`` ... or ``train``, unpacked.

    ``data_root`` is the folder with the files, or the folder above. ``folder`` is ``"train"``, or ``"val"`` or
    ``"test"`` for the 10,000 test images. Other arguments and errors: :class:`SplitImages`. The images are in memory
    anyway.
    """

    def find(self, classes: list[str] | None, skip_others: bool) -> tuple[list[str], Samples]:
        root, layout = find_layout(Path(self.data_root))
        names = read_names(root, layout)
        parts = [read_part(root / file, layout, len(names)) for file in files_of(layout, self.folder)]
        labels = [names[label] for _, part in parts for label in part]
        found = class_indices(labels, classes or names, str(root), skip_others)
        kept = np.flatnonzero(found >= 0)
        self.arrays = np.concatenate([pixels for pixels, _ in parts])[kept]
        return classes or names, Samples((f"{root}/{self.folder}:{i}", int(found[i])) for i in kept)

    def read(self, index: int) -> Image.Image:
        return Image.fromarray(np.ascontiguousarray(self.arrays[index].transpose(1, 2, 0)))


class ArrayUnpickler(pickle.Unpickler):
    """Reads arrays, lists, dicts and texts. A pickle that asks for anything else is refused before it runs code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def find_layout(root: Path) -> tuple[Path, Layout]:
    """The folder of the files, and which data set they are.

    Raises:
        UserError: neither ``root`` nor a folder in it holds the files of one data set alone.
    """
    found = [
        (folder, layout)
        for layout in LAYOUTS
        for folder in (root, root / layout.folder)
        if (folder / layout.meta).is_file()
    ]
    if len(found) != 1:
        wanted = " or ".join(layout.folder for layout in LAYOUTS)
        packed = sorted(path.name for path in root.glob("cifar*.tar.gz")) if root.is_dir() else []
        hint = f"; unpack {packed[0]}" if packed and not found else ""
        number = "two data sets" if found else "no CIFAR files"
        raise UserError(
            f"{number} in {root}{hint}; allowed: the folder {wanted}, or the folder above it; "
            "data_format=folders is for a folder of images for each class"
        )
    return found[0]


def files_of(layout: Layout, folder: str) -> tuple[str, ...]:
    if folder not in ("train", "val", "test"):
        raise UserError(f"folder={folder!r}; allowed: train, val, test")
    return layout.train if folder == "train" else layout.test


def read_arrays(file: Path) -> dict[str, Any]:
    """The dict in a file, its keys as text."""
    try:
        with open(file, "rb") as content:
            found = ArrayUnpickler(content, encoding="bytes").load()
    except FileNotFoundError:
        raise UserError(f"no such file: {file}") from None
    except Exception as error:  # broken bytes raise errors of many kinds
        raise UserError(f"{file} is no file of CIFAR: {error or type(error).__name__}") from None
    if not isinstance(found, dict):
        raise UserError(f"{file} is no file of CIFAR: it holds a {type(found).__name__}")
    return {as_text(key): value for key, value in found.items()}


def as_text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def read_names(root: Path, layout: Layout) -> list[str]:
    """The class names in the meta file."""
    names = read_arrays(root / layout.meta).get(layout.names)
    if not isinstance(names, list) or not names:
        raise UserError(f"{root / layout.meta} has no {layout.names}")
    return [str(as_text(name)) for name in names]


def read_part(file: Path, layout: Layout, count: int) -> tuple[np.ndarray, list[int]]:
    """Pixels, uint8 (N, 3, 32, 32), and labels of one file; each label is below ``count``."""
    content = read_arrays(file)
    pixels, labels = content.get("data"), content.get(layout.labels)
    shape, kind = getattr(pixels, "shape", None), getattr(pixels, "dtype", None)
    if kind != np.uint8 or shape is None or len(shape) != 2 or shape[1] != 3072 or not isinstance(labels, list):
        raise UserError(f"{file}: data {kind} {shape}; allowed: data uint8 (N, 3072), and a list {layout.labels}")
    if len(labels) != len(pixels):
        raise UserError(f"{file}: {len(pixels)} images and {len(labels)} labels; allowed: as many labels as images")
    for position, label in enumerate(labels):
        check_label(label, count, f"{file}, image {position}")
    return pixels.reshape(-1, 3, 32, 32), labels


@register_format(CifarImages)
class CifarFormat(LabelledFormat):
    """CIFAR-10 or CIFAR-100."""

    def classes(self, dataset: Any) -> tuple[str, ...] | None:
        root = Path(dataset.get("data_root") or "")
        return tuple(read_names(*find_layout(root))) if root.is_dir() else None

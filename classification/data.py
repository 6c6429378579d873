"""Images in class folders, augmentation, and the checks before a run starts."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform
from torch import Tensor
from torch.utils.data import Dataset

from backbones import UserError
from backbones.checks import MIN_SIZE, check_int
from backbones.errors import shorten
from backbones.images import SUFFIXES, read_image
from engine.formats import Format, choose_classes, formats_of, register_format
from engine.num_classes import class_names, set_num_classes
from engine.splits import SPLITS, datasets_of, prepare_splits, under_root

SCOPE = "mmengine"


class ImageFolder(Dataset):
    """Images in ImageNet's layout, ``data_root/folder/CLASS/**/image``.

    An item is a dict: ``inputs``, uint8 RGB (3, H, W), and ``data_samples``, the class index.

    Args:
        data_root: the folder that holds ``folder``.
        folder: e.g. ``"train"``.
        transform: arguments of ``timm.data.create_transform``. Normalisation is left out: the device does it later.
        classes: names of class folders, in the order of their indices. By default all folders, sorted.
        skip_others: leave out folders that ``classes`` does not name, rather than refuse them.
        in_memory: decode every image once and keep the pixels, for small data sets.

    Raises:
        UserError: a folder is missing or empty, or an image cannot be read. The message names the file or folder.
    """

    def __init__(
        self,
        data_root: str,
        folder: str,
        transform: dict[str, Any],
        classes: Sequence[str] | None = None,
        in_memory: bool = False,
        skip_others: bool = False,
    ):
        root = Path(data_root) / folder
        self.classes = list(classes or class_folders(root))
        self.samples = list_samples(root, self.classes, skip_others)
        self.transform = build_transform(transform)
        self.images = [np.asarray(read_image(path)) for path, _ in self.samples] if in_memory else None

    @property
    def metainfo(self) -> dict[str, Any]:
        return {"classes": tuple(self.classes)}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path, label = self.samples[index]
        image = Image.fromarray(self.images[index]) if self.images else read_image(path)
        return {"inputs": as_tensor(self.transform(image)), "data_samples": label}


def build_transform(options: dict[str, Any]) -> Callable[[Image.Image], np.ndarray | Tensor]:
    """A function from a PIL image to uint8 (3, H, W): timm's ``create_transform(**options)``, not normalised."""
    return create_transform(**{"interpolation": "bicubic", **options}, use_prefetcher=True)


def as_tensor(image: np.ndarray | Tensor) -> Tensor:
    return torch.from_numpy(image) if isinstance(image, np.ndarray) else image


def class_folders(root: Path) -> list[str]:
    """The names of the class folders in ``root``, sorted; UserError if there are none."""
    if not root.is_dir():
        raise UserError(f"no data folder {root}; set data_root=FOLDER, holding train/CLASS/*.jpg and val/CLASS/*.jpg")
    classes = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise UserError(f"no class folders in {root}; allowed: one folder of images per class")
    return classes


def list_samples(root: Path, classes: list[str], skip_others: bool = False) -> list[tuple[str, int]]:
    """(path, class index) of every image below the class folders.

    Raises:
        UserError: there is no image, or, unless ``skip_others``, a folder that ``classes`` does not name.
    """
    unknown = sorted(set(class_folders(root)) - set(classes))
    if unknown and not skip_others:
        raise UserError(f"{root} has classes that training does not know: {shorten(unknown)}")
    samples = [
        (str(path), index)
        for index, name in enumerate(classes)
        for path in sorted((root / name).rglob("*"))
        if path.suffix.lower() in SUFFIXES
    ]
    if not samples:
        raise UserError(f"no images in the class folders of {root}; readable: {', '.join(SUFFIXES)}")
    return samples


def prepare_config(cfg: Any) -> None:
    """Completes a config in place: data roots, the test set, classes, num_classes.

    The classes are the folders of the training set. ``cfg.classes``, a list of folder names, sets their order and
    leaves out the other folders, also if a data set names classes of its own. A config keeps its num_classes if the
    data are absent.

    Raises:
        UserError: ``cfg.classes`` is no list of names.
    """
    prepare_splits(cfg)
    if cfg.get("input_size") is not None:
        set_input_size(cfg, cfg.input_size)
    datasets = [pair for split in SPLITS for pair in formats_of(cfg, split, SCOPE)]
    on_disk = (found.classes(dataset) for dataset, found in datasets)
    chosen = class_names(cfg.get("classes"))
    classes = chosen or next((classes for classes in on_disk if classes), None)
    if chosen:
        choose_classes(cfg, SCOPE, chosen, [])
    elif classes:
        for dataset, found in datasets:
            found.set_classes(dataset, tuple(classes), [])
    if classes and cfg.get("model") is not None:
        set_num_classes(cfg.model, len(classes))


def set_input_size(cfg: Any, size: Any) -> None:
    """Sets the crop of every transform, in pixels. Raises UserError unless ``size`` is an integer from 32 up."""
    check_int("input_size", size, MIN_SIZE, None)
    for split in SPLITS:
        for dataset in datasets_of(cfg, split):
            if dataset.get("transform") is not None:
                dataset.transform.input_size = size


@register_format(ImageFolder)
class ImageFolderFormat(Format):
    """A folder of images for each class."""

    def classes(self, dataset: Any) -> tuple[str, ...] | None:
        root = under_root(dataset, dataset.folder)
        return tuple(class_folders(root)) if has_folders(root) else None

    def set_classes(self, dataset: Any, names: tuple[str, ...], palette: Any, replace: bool = False) -> None:
        """Writes class names into the config. Chosen names leave out the other folders."""
        if replace or dataset.get("classes") is None:
            dataset.classes = list(names)
        if replace:
            dataset.setdefault("skip_others", True)

    def check(self, dataset: Any, split: str) -> None:
        """Looks for the class folders, and for images in them.

        Raises:
            UserError: a folder is missing or empty, or a class has no training images or is unknown to training.
        """
        root = under_root(dataset, dataset.folder)
        classes = list(dataset.get("classes") or class_folders(root))
        seen = {index for _, index in list_samples(root, classes, dataset.get("skip_others", False))}
        empty = [name for index, name in enumerate(classes) if index not in seen]
        if empty and split == "train":
            raise UserError(f"{root}: no images for {len(empty)} of {len(classes)} classes: {shorten(empty)}")


def has_folders(root: Path) -> bool:
    return root.is_dir() and any(path.is_dir() for path in root.iterdir())

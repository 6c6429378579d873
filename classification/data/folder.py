"""A folder of images for each class: ImageNet's layout."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backbones.errors import UserError, shorten
from backbones.image_files import images_below, is_hidden, suffixes_of
from backbones.reading import READING, Reading
from classification.data.checks import LabelledFormat
from classification.data.images import SplitImages
from classification.data.samples import Samples
from ziggurat.engine.formats import register_format
from ziggurat.engine.splits import under_root


class ImageFolder(SplitImages):
    """Images in ImageNet's layout, ``data_root/folder/CLASS/**/image``.

    The classes are the names of the class folders, sorted. Arguments and errors: :class:`SplitImages`.
    """

    def find(self, classes: list[str] | None, skip_others: bool) -> tuple[list[str], Samples]:
        root = Path(self.data_root) / self.folder
        classes = classes or class_folders(root)
        return classes, list_samples(root, classes, skip_others, self.reading)


def class_folders(root: Path) -> list[str]:
    """The names of the class folders in ``root``, sorted; UserError if there are none."""
    if not root.is_dir():
        raise UserError(
            f"no data folder {root}; allowed: --data or data_root with train/CLASS/*.jpg and val/CLASS/*.jpg"
        )
    classes = sorted(path.name for path in root.iterdir() if not is_hidden(path.name) and path.is_dir())
    if not classes:
        raise UserError(f"no class folders in {root}; allowed: one folder of images per class")
    return classes


def list_samples(root: Path, classes: Sequence[str], skip_others: bool = False, reading: Reading = READING) -> Samples:
    """(path, class index) of every image below the class folders.

    Raises:
        UserError: there is no image, or, unless ``skip_others``, a folder that ``classes`` does not name.
    """
    folders = set(class_folders(root))
    unknown = sorted(folders - set(classes))
    if unknown and not skip_others:
        raise UserError(f"{root} has classes that training does not know: {shorten(unknown)}")
    samples = Samples(
        (str(path), i)
        for i, name in enumerate(classes)
        if name in folders
        for path in images_below(root / name, reading)
    )
    if not samples:
        raise UserError(f"no images in the class folders of {root}; readable: {', '.join(suffixes_of(reading))}")
    return samples


@register_format(ImageFolder)
class ImageFolderFormat(LabelledFormat):
    """A folder of images for each class."""

    def classes(self, dataset: Any) -> tuple[str, ...] | None:
        root = under_root(dataset, dataset.folder)
        return tuple(class_folders(root)) if has_folders(root) else None


def has_folders(root: Path) -> bool:
    return root.is_dir() and any(path.is_dir() for path in root.iterdir() if not is_hidden(path.name))

"""Images with one class each: reading, transforming, keeping in memory, and skipping those that cannot be read."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from backbones.errors import UserError, shorten
from backbones.images import read_image, read_pixels
from backbones.reading import Reading, reading_of
from classification.data.samples import UNSCORED, Samples
from classification.data.transforms import as_tensor, build_transform, transformable
from ziggurat.engine.unreadable import Unreadable


class LabelledImages(Dataset):
    """Images whose names and classes are given.

    An item is a dict: ``inputs``, uint8 (C, H, W), RGB where C is 3, and ``data_samples``, the class index. In a
    validation the item of an unreadable image has the index ``UNSCORED``.

    Args:
        classes: the class names, in the order of their indices.
        samples: (name, class index) of every image.
        transform: arguments of ``timm.data.create_transform``. Normalisation is left out: the device does it later.
        in_memory: decode every image once and keep the pixels, for small data sets.
        max_unreadable: the share of images that may be unreadable, e.g. 0.001. The next image takes the place of an
            unreadable one. None, which is for testing, allows none.
        reading: the rule by which files are read, as for ``backbones.reading.reading_of``.

    Raises:
        UserError: an image cannot be read, and ``max_unreadable`` does not allow one more. The message names the image.
    """

    def __init__(
        self,
        classes: Sequence[str],
        samples: Samples,
        transform: dict[str, Any] | None = None,
        in_memory: bool = False,
        max_unreadable: float | None = None,
        reading: dict[str, Any] | None = None,
    ):
        self.classes = list(classes)
        self.samples = samples
        self.reading = reading_of(reading)
        self.transform = build_transform(transform or {}, self.reading.channels)
        self.in_memory = in_memory
        self.unreadable = Unreadable(samples, max_unreadable)
        self.kept: list[np.ndarray | None] | None = None
        if in_memory:
            self.kept = [self.pixels(index) for index in range(len(samples))]

    @property
    def metainfo(self) -> dict[str, Any]:
        return {"classes": tuple(self.classes)}

    def listing(self) -> Iterator[bytes]:
        """The names and labels of the images, for the fingerprint of a run's data."""
        return self.samples.listing(getattr(self, "data_root", ""))

    def full_init(self) -> None:
        """Does nothing: the images are found when the data set is made. Wrappers of mmengine call this."""

    def get_cat_ids(self, index: int) -> list[int]:
        """The class index of an image, in a list, as wrappers of mmengine ask for it."""
        return [int(self.samples.labels[index])]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        place = range(len(self))[index]
        found, image = self.first_readable(place)
        label = UNSCORED if found != place and self.unreadable.is_scored else int(self.samples.labels[found])
        return {"inputs": as_tensor(self.transform(image)), "data_samples": label}

    def read(self, index: int) -> Image.Image | Tensor:
        """The image for the transform, as by :func:`decoded`; UserError if it cannot be read."""
        return decoded(self.samples[index][0], None, self.reading)

    def pixels(self, index: int) -> np.ndarray | None:
        """The pixels (H, W, C) to keep; None for an unreadable image that may be skipped."""
        try:
            image = self.read(index)
            return image.permute(1, 2, 0).numpy() if isinstance(image, Tensor) else np.asarray(image)
        except UserError as error:
            self.unreadable.add(index, error)
            return None

    def first_readable(self, start: int) -> tuple[int, Image.Image | Tensor]:
        """Index and image of the first readable image from ``start`` on. After the last image comes the first."""
        for step in range(len(self)):
            index = (start + step) % len(self)
            if self.kept is not None and self.kept[index] is None:
                continue
            try:
                return index, self.read(index) if self.kept is None else transformable(self.kept[index])
            except UserError as error:
                self.unreadable.add(index, error)
        raise UserError(f"none of {len(self)} images can be read, such as {self.samples[start][0]}")


def decoded(name: str | Path, content: bytes | None, reading: Reading) -> Image.Image | Tensor:
    """An image file for the transform: 8-bit RGB as a PIL image, other channels as a uint8 tensor (C, H, W)."""
    if reading.channels == 3:
        return read_image(name, content, reading)
    return transformable(read_pixels(name, content, reading))


class SplitImages(LabelledImages, ABC):
    """The images of one split of a data set. A subclass finds them, for one format.

    Args:
        data_root: the folder that holds ``folder``. Formats may also allow the name of a data set.
        folder: the split, e.g. ``"train"``.
        transform, in_memory, max_unreadable, reading: as for :class:`LabelledImages`.
        classes: class names, in the order of their indices. By default all classes of the data, in the format's order.
        skip_others: leave out images of classes that ``classes`` does not name, rather than refuse them.

    Raises:
        UserError: the data are absent or malformed, or no image is left. The message names the file or folder.
    """

    def __init__(
        self,
        data_root: str,
        folder: str,
        transform: dict[str, Any] | None = None,
        classes: Sequence[str] | None = None,
        in_memory: bool = False,
        skip_others: bool = False,
        max_unreadable: float | None = None,
        reading: dict[str, Any] | None = None,
    ):
        self.data_root, self.folder, self.reading = str(data_root), folder, reading_of(reading)
        found, samples = self.find(classes and list(classes), skip_others)
        if not samples:
            raise UserError(f"{Path(self.data_root) / folder} has no images of the classes {shorten(found)}")
        super().__init__(found, samples, transform, in_memory, max_unreadable, reading)

    @abstractmethod
    def find(self, classes: list[str] | None, skip_others: bool) -> tuple[list[str], Samples]:
        """The class names, ``classes`` if given, and (name, class index) of every image of these classes."""

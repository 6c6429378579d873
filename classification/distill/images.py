"""Images without labels, each as several random crops."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from backbones import UserError
from backbones.checks import check_int
from backbones.errors import shown
from backbones.image_files import list_images
from backbones.reading import READING, Reading, reading_of
from classification.data import LabelledImages, as_tensor, build_transform
from classification.data.samples import Samples
from classification.data.transforms import size_of
from ziggurat.engine.formats import Format, register_format


class UnlabelledImages(LabelledImages):
    """All images below a folder, in any tree.

    An item is ``dict(inputs=[crop, ...])`` with uint8 RGB crops (3, S, S).

    Args:
        data_root: the folder.
        crops: kinds of crops, e.g. ``dict(large=dict(number=2, input_size=224, scale=(0.25, 1.0)))``. ``number`` is
            how many an image gives, 0 or more; the rest are arguments of ``timm.data.create_transform``.
        min_side: the shortest side in pixels that an image may have. None: the size of the smallest crops.
        max_unreadable: the share of images that may be unreadable or too small, as for ``LabelledImages``.
        reading: as for ``LabelledImages``.

    Raises:
        UserError: there is no image or no crop, or too many images cannot be read or are too small. The message names
            the folder or file.
    """

    metainfo: dict[str, Any] = {}

    def __init__(
        self,
        data_root: str,
        crops: Mapping[str, Mapping[str, Any]],
        min_side: int | None = None,
        max_unreadable: float | None = None,
        reading: dict[str, Any] | None = None,
    ):
        samples = Samples((str(path), -1) for path in images_in(data_root, reading_of(reading)))
        super().__init__([], samples, max_unreadable=max_unreadable, reading=reading)
        self.transforms, sides = [], []
        for kind in check_crops(crops).values():
            options = {"is_training": True, "input_size": 224, **kind}
            number = options.pop("number")
            self.transforms += [build_transform(options, self.reading.channels)] * number
            sides += [options["input_size"]] * number
        self.min_side = min(sides) if min_side is None else check_int("min_side", min_side, 1, None)

    def __getitem__(self, index: int) -> dict[str, list[Tensor]]:
        _, image = self.first_readable(range(len(self))[index])
        return {"inputs": [as_tensor(transform(image)) for transform in self.transforms]}

    def read(self, index: int) -> Image.Image | Tensor:
        """The image for the transforms; UserError if it cannot be read or is too small."""
        image = super().read(index)
        width, height = size_of(image)
        if min(width, height) < self.min_side:
            raise UserError(
                f"{self.samples[index][0]} is {width}x{height} pixels; allowed: sides of {self.min_side} "
                "and more, or smaller ones by min_side=PIXELS of the data set"
            )
        return image


def images_in(root: str | Path, reading: Reading = READING) -> list[Path]:
    """The images below a folder, sorted; UserError if there are none."""
    if not Path(root).is_dir():
        raise UserError(f"no data folder {root}; allowed: --data or data_root with images at any depth")
    return list_images([root], reading)


def check_crops(crops: Any) -> Mapping[str, Mapping[str, Any]]:
    """The crops; UserError unless each kind has a number, and the numbers are not all 0."""
    if not isinstance(crops, Mapping) or not all(isinstance(kind, Mapping) for kind in crops.values()):
        raise UserError(f"crops is {shown(crops)}; allowed: dict(NAME=dict(number=2, input_size=224, ...), ...)")
    numbers = [check_int(f"crops.{name}.number", kind.get("number"), 0, None) for name, kind in crops.items()]
    if not any(numbers):
        raise UserError("crops gives no crop of an image; allowed: a number of 1 or more in one of its kinds")
    return crops


@register_format(UnlabelledImages)
class UnlabelledFormat(Format):
    """A folder of images without labels."""

    def check(self, dataset: Any, split: str) -> None:
        """Raises UserError if there are no images, or the crops are wrong."""
        images_in(dataset.get("data_root") or "", reading_of(dataset.get("reading")))
        check_crops(dataset.get("crops"))

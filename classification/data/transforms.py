"""timm's transforms of one image, from PIL image to uint8 tensor."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import auto_augment, create_transform
from torch import Tensor

from backbones.errors import UserError, shown, unknown

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos", "random")


def build_transform(options: dict[str, Any]) -> Callable[[Image.Image], np.ndarray | Tensor]:
    """A function from a PIL image to uint8 (3, H, W): timm's ``create_transform(**options)``, not normalised."""
    options = {"interpolation": "bicubic", **options}
    if options["interpolation"] not in INTERPOLATIONS:
        raise unknown("transform.interpolation", options["interpolation"], INTERPOLATIONS)
    try:
        transform = create_transform(**options, use_prefetcher=True)
    except (AssertionError, ValueError) as error:
        raise UserError(f"transform {shown(options)}: {error or type(error).__name__}") from None
    for step in augmentations(transform):
        if step.aug_fn is auto_augment.posterize:
            step.aug_fn = posterize
    return transform


def augmentations(part: Any) -> Iterator[Any]:
    """Every timm ``AugmentOp`` in a transform."""
    if isinstance(part, auto_augment.AugmentOp):
        yield part
    elif isinstance(part, list | tuple):
        for inner in part:
            yield from augmentations(inner)
    else:
        for name in ("transforms", "ops", "policy", "augmentation"):
            yield from augmentations(getattr(part, name, ()))


def posterize(image: Image.Image, bits_to_keep: int, **options: Any) -> Image.Image:
    """timm's posterize, which keeps the highest bits of each channel. No bits give a black image.

    RandAugment of magnitude 9 +- 0.5 asks for no bits about once in 700 images. Pillow 13 raises for no bits; Pillow
    before 13, with which the recipes were trained, gave a black image.
    """
    if bits_to_keep < 1:
        return Image.new(image.mode, image.size)
    return auto_augment.posterize(image, bits_to_keep, **options)


def as_tensor(image: np.ndarray | Tensor) -> Tensor:
    return torch.from_numpy(image) if isinstance(image, np.ndarray) else image

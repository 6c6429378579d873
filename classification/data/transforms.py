"""timm's transforms of one image, from PIL image or tensor to uint8 tensor."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import auto_augment, create_transform
from torch import Tensor

from backbones.errors import UserError, shown, unknown

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos", "random")
# Options of timm's transforms that only RGB can have, and the values that switch them off.
COLOUR = {"auto_augment": None, "color_jitter": None, "grayscale_prob": 0.0, "gaussian_blur_prob": 0.0}


def build_transform(
    options: dict[str, Any], channels: int = 3
) -> Callable[[Image.Image | Tensor], np.ndarray | Tensor]:
    """A function from an image to uint8 (C, H, W): timm's ``create_transform(**options)``, not normalised.

    Args:
        options: the arguments of timm's function.
        channels: of the images. Three are a PIL image in RGB. Others are a tensor (C, H, W), and the transforms of
            colours are left out, since they are made for RGB.
    """
    options = {"interpolation": "bicubic", **options}
    if channels != 3:
        options = {name: value for name, value in options.items() if name != "mean"} | COLOUR
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


def transformable(pixels: np.ndarray) -> Image.Image | Tensor:
    """uint8 (H, W, C) as the transforms take it: RGB as a PIL image, other channels as a tensor (C, H, W)."""
    if pixels.shape[2] == 3:
        return Image.fromarray(pixels)
    return torch.from_numpy(np.array(pixels.transpose(2, 0, 1)))  # a copy, since transforms may write


def size_of(image: Image.Image | Tensor) -> tuple[int, int]:
    """Width and height of an image in either form."""
    return image.size if isinstance(image, Image.Image) else (image.shape[2], image.shape[1])


def as_tensor(image: np.ndarray | Tensor) -> Tensor:
    return torch.from_numpy(image) if isinstance(image, np.ndarray) else image

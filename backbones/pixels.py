"""Pixels of any type and any mode of Pillow as 8 bits a channel, by the rule of a :class:`Reading`."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from backbones.errors import UserError
from backbones.reading import READING, Reading

GREY = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")  # Pillow's modes with one colour
AS_STORED = {2: ("LA",), 4: ("RGBA", "CMYK")}  # channels -> Pillow's modes that have them
SLACK = 1e-3  # tolerance for float images outside 0..1, by rounding
SAMPLE_FORMAT = 339  # TIFF's tag of the type of values; 1 is unsigned


def to_channels(image: Image.Image, reading: Reading, name: str) -> Image.Image:
    """A PIL image of any mode in 8 bits with the channels of a rule.

    1 is grey, 3 is RGB, 4 is RGBA or CMYK as stored, 2 is grey and alpha as stored.

    Args:
        image: the image. Its palette is resolved.
        reading: the rule.
        name: the image's name in messages.

    Raises:
        UserError: the image has no form of so many channels, or its values are outside the range of its type.
    """
    channels = reading.channels
    if channels == 1:
        rgb = to_rgb(image, name, reading)
        return rgb.convert("L") if image.mode not in GREY or reading.alpha is not None else rgb.getchannel(0)
    if channels == 3:
        return to_rgb(image, name, reading)
    if channels == 4 and image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in AS_STORED.get(channels, ()):
        return image
    stored = f"mode {' or '.join(AS_STORED[channels])}, " if channels in AS_STORED else ""
    allowed = (
        f"{stored}an array (H, W, {channels}) or a tensor ({channels}, H, W), for a network of {channels} channels"
    )
    raise UserError(f"{name} is an image of mode {image.mode}; allowed: {allowed}")


def to_rgb(image: Image.Image, name: str, reading: Reading = READING) -> Image.Image:
    """A PIL image of any mode as 8-bit RGB; ``name`` is for messages."""
    image = in_8_bits(image, name, reading)
    if reading.alpha is not None and has_alpha(image):
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (*reading.alpha, 255)), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def has_alpha(image: Image.Image) -> bool:
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info


def in_8_bits(image: Image.Image, name: str, reading: Reading = READING) -> Image.Image:
    """A PIL image whose one channel has integers of more bits or floats as a grey one; other images as they are.

    Raises:
        UserError: the values are 32-bit integers, or floats outside 0..1, and the rule has no range for them.
    """
    mode = image.mode
    if not (mode.startswith("I") or mode == "F"):
        return image
    is_16_bit = mode != "F" and (mode != "I" or image.format in ("PNG", "PPM"))  # Pillow opens their 16 bits as "I"
    if mode == "I" and not is_16_bit and reading.value_range is None:
        raise UserError(
            f"{name}: 32-bit integers, whose range is not known; allowed: 8 or 16 bits, floats 0 to 1, or a range, as "
            "in reading.value_range=[0,4095]"
        )
    values = np.asarray(image)
    if is_16_bit:
        values = values.astype(np.uint16)
    elif mode == "I" and image.format == "TIFF" and image.tag_v2.get(SAMPLE_FORMAT, 1) in (1, (1,)):
        values = values.view(np.uint32)  # Pillow's mode is signed
    grey = Image.fromarray(as_8_bits(values, name, reading))
    seen_through = image.info.get("transparency")
    if isinstance(seen_through, int):  # the value that PNG declares transparent
        grey = Image.merge("LA", [grey, Image.fromarray(np.where(values == seen_through, 0, 255).astype(np.uint8))])
    return grey


def as_8_bits(values: np.ndarray | Tensor, name: str, reading: Reading = READING) -> np.ndarray:
    """Pixel values of any real type and shape as uint8, by the rule; errors as :func:`known_range`."""
    if isinstance(values, np.ndarray):
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        values = torch.from_numpy(np.require(values, requirements=["C", "W"]))
    known = known_range(values, name, reading)
    if known.is_floating_point():
        known = (known * 255).round().clamp(0, 255)
    return known.to(torch.uint8).numpy()


def known_range(image: Tensor, name: str, reading: Reading = READING) -> Tensor:
    """Pixel values in memory as integers 0..255 or floats 0..1.

    Args:
        image: of any shape. uint16 gives the high byte, as int32. Other types come back as they are. With a
            ``value_range`` all types but uint8 become uint8.
        name: the image's name in messages.
        reading: the rule.

    Raises:
        UserError: floats are outside 0..1 or not finite, integers are outside 0..255, or the type is bool or complex.
    """
    if image.dtype == torch.uint8 or not image.numel():
        return image
    kind = str(image.dtype).removeprefix("torch.")
    if image.dtype == torch.bool or image.is_complex():
        raise UserError(f"{name} has values of type {image.dtype}; allowed: integers or floats")
    if reading.value_range is not None:
        low, high = reading.value_range
        values = image.double()
        if not values.isfinite().all():
            raise UserError(f"{name}: {kind} values that are not finite; allowed: numbers")
        return ((values - low) * (255 / (high - low))).round_().clamp_(0, 255).to(torch.uint8)
    if image.dtype == torch.uint16:
        return image.to(torch.int32) >> 8
    low, high = (float(value) for value in (image if image.is_floating_point() else image.double()).aminmax())
    top, slack = (1, SLACK) if image.is_floating_point() else (255, 0)
    if not (low >= -slack and high <= top + slack):
        raise UserError(
            f"{name}: {kind} values from {low:g} to {high:g}; "
            "allowed: floats 0 to 1, integers 0 to 255, uint16 0 to 65535, or a range, as in "
            "reading.value_range=[0,4095]"
        )
    return image


def check_dense(image: Tensor, name: str) -> None:
    """Raises UserError for a tensor without values, or whose values are not in one block of memory."""
    if image.is_meta or image.is_nested or image.is_quantized or image.layout != torch.strided:
        others = "nested" if image.is_nested else "quantized" if image.is_quantized else image.layout
        kind = "on the meta device and has no values" if image.is_meta else others
        raise UserError(f"{name} is {kind}; allowed: a dense tensor with values")


def picture(pixels: np.ndarray) -> Image.Image:
    """Pixels as people look at them: uint8 (H, W, C) as RGB. Of one or two channels the first is shown as grey.

    Of more than three channels the first three are shown.
    """
    shown = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., :1].repeat(3, 2)
    return Image.fromarray(np.ascontiguousarray(shown))

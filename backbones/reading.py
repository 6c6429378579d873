"""The rule by which image files become pixels. All tasks, tools and views of one run follow one rule."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from backbones.checks import MAX_CHANS, check_int
from backbones.errors import UserError, shown, unknown


class Reading(NamedTuple):
    """How image files are read. The pixels are always 8 bits a channel.

    Attributes:
        value_range: (low, high): the values that become 0 and 255, for 16-bit integers, 32-bit integers and floats of
            PNG, TIFF and NumPy files, grey and colour alike. Values between are mapped linearly and rounded, others
            clipped. 8-bit values stay as they are. None is the range of the type: a 16-bit value gives its high byte, a
            float must be 0 to 1, and 32-bit integers are refused.
        alpha: the RGB colour, 0..255, that transparent pixels are laid upon. None drops the alpha channel.
        upright: whether photographs are turned as their EXIF data say.
        channels: of the pixels. 3 is RGB and 1 is grey, whatever the file has. Another number is what the file has, see
            :mod:`backbones.bands`.
        max_pixels: an image of more pixels is refused before it is decoded. None is Pillow's limit, 179 megapixels.
    """

    value_range: tuple[float, float] | None = None
    alpha: tuple[int, int, int] | None = None
    upright: bool = True
    channels: int = 3
    max_pixels: int | None = None

    @property
    def is_picture(self) -> bool:
        """Whether the pixels are RGB or grey, which any picture can be turned into."""
        return self.channels in (1, 3)


READING = Reading()  # the rule of a run that says nothing


def reading_of(given: Any, name: str = "reading") -> Reading:
    """A rule of a config, such as ``dict(value_range=(0, 4095), upright=False)``, as a :class:`Reading`.

    Args:
        given: a dict, a Reading, or None for the defaults.
        name: what ``given`` is called in messages.

    Raises:
        UserError: a key is unknown, or a value is not allowed.
    """
    if given is None:
        return READING
    if isinstance(given, Reading):
        given = given._asdict()
    if not isinstance(given, Mapping):
        raise UserError(f"{name} is {shown(given)}; allowed: a dict of {', '.join(Reading._fields)}")
    for key in given:
        if key not in Reading._fields:
            raise unknown(f"key of {name}", key, Reading._fields)
    upright = given.get("upright", True)
    if not isinstance(upright, bool):
        raise UserError(f"{name}.upright is {shown(upright)}; allowed: True, False")
    limit = given.get("max_pixels")
    return Reading(
        checked_range(given.get("value_range"), f"{name}.value_range"),
        checked_colour(given.get("alpha"), f"{name}.alpha"),
        upright,
        check_int(f"{name}.channels", given.get("channels", 3), 1, MAX_CHANS),
        None if limit is None else check_int(f"{name}.max_pixels", limit, 1, None),
    )


def checked_range(value: Any, name: str) -> tuple[float, float] | None:
    numbers = list(value) if isinstance(value, list | tuple) else []
    are_numbers = all(type(number) in (int, float) and math.isfinite(number) for number in numbers)
    if value is not None and not (len(numbers) == 2 and are_numbers and numbers[0] < numbers[1]):
        raise UserError(f"{name} is {shown(value)}; allowed: (low, high), two numbers with low < high, or None")
    return None if value is None else (numbers[0], numbers[1])


def checked_colour(value: Any, name: str) -> tuple[int, int, int] | None:
    numbers = list(value) if isinstance(value, list | tuple) else []
    are_bytes = all(type(number) is int and 0 <= number <= 255 for number in numbers)
    if value is not None and not (len(numbers) == 3 and are_bytes):
        raise UserError(f"{name} is {shown(value)}; allowed: (red, green, blue), integers 0 to 255, or None")
    return None if value is None else tuple(numbers)

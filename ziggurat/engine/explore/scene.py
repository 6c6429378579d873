"""What a picture of the page is drawn from, and what a request of the page asks for."""

from collections.abc import Callable
from typing import Any, NamedTuple

from PIL import Image, ImageDraw
from torch import Tensor

from backbones.checks import check_int
from backbones.errors import UserError, shown
from backbones.show import NODE, Look, heat
from ziggurat.engine.explore.networks import Network

Size = tuple[int, int]

# What a request need not say. A position is a share of the height and of the width; -1 is all channels together.
DEFAULTS = {
    **dict.fromkeys(("stage", "block", "channel", "order", "head", "label"), 0),
    **{"channels": -1, "x": 0.5, "y": 0.5, "blend": 1, "score": 0.3},
}


class Scene(NamedTuple):
    """What a picture is drawn from.

    Attributes:
        network: the network.
        look: its computation for the image.
        base: the image, RGB, in the size of the pictures.
        asked: the request of the page, a dict of JSON, with ``DEFAULTS`` for what it leaves out.
        result: gives the whole model's result for the image, and the image's pixels.
    """

    network: Network
    look: Look
    base: Image.Image
    asked: dict[str, Any]
    result: Callable[[], tuple[Any, Any]]

    def number(self, name: str) -> int:
        """An integer of the request."""
        return check_int(name, self.asked[name], -1, None)

    @property
    def stage(self) -> int:
        return check_int("stage", self.asked["stage"], 0, len(self.look.maps) - 1)

    @property
    def map(self) -> Tensor:
        return self.look.maps[self.stage]

    def place(self, shape: Size) -> Size:
        """The row and the column of the chosen position on a map of height and width ``shape``."""
        return tuple(
            min(int(share(name, self.asked[name]) * side), side - 1)
            for name, side in zip(("y", "x"), shape, strict=True)
        )

    def over(self, values: Tensor) -> Image.Image:
        """Values (H, W) as colours, over the image as far as the request says. Its info has their range."""
        return ranged(self.blended(heat(values, self.base.size)), values)

    def blended(self, picture: Image.Image) -> Image.Image:
        return Image.blend(self.base, picture, share("blend", self.asked["blend"]))

    def of_channel(self, values: Tensor, together: Callable[[Tensor], Tensor]) -> Tensor:
        """The chosen channel of (C, H, W), or for -1 all of them together."""
        number = self.number("channels")
        if number >= len(values):
            raise UserError(f"channels is {number}; allowed: -1 for all, 0 to {len(values) - 1}")
        return together(values) if number < 0 else values[number]


def ranged(picture: Image.Image, values: Tensor) -> Image.Image:
    """A picture that knows, in its info, the least and the greatest of its values."""
    picture.info["range"] = tuple(float(value) for value in values.aminmax())
    return picture


def share(name: str, value: Any) -> float:
    """A number from 0 to 1; UserError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UserError(f"{name} is {shown(value)}; allowed: 0 to 1")
    return value


def marked(picture: Image.Image, place: Size, shape: Size) -> Image.Image:
    """A copy of a picture with a ring around a position of a map."""
    drawn = picture.copy()
    centre = [(at + 0.5) * side / count for at, side, count in zip(place[::-1], drawn.size, shape[::-1], strict=True)]
    radius = max(5, min(drawn.size) / 60)
    draw = ImageDraw.Draw(drawn)
    draw.circle(centre, radius + 2, outline="black", width=2)
    draw.circle(centre, radius, outline=NODE, width=3)
    return drawn

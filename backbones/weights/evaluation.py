"""How images are prepared to evaluate weights."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Evaluation(NamedTuple):
    """How the authors prepare the images that they evaluate on. The names are those of timm's ``create_transform``.

    Attributes:
        input_size: side of the network's square input in pixels.
        crop_pct: the crop's share of the resized image. The image is resized to ``input_size / crop_pct`` pixels.
        crop_mode: ``"center"`` resizes the short side. ``"squash"`` resizes both sides, whatever their ratio.
        interpolation: of the resize.
    """

    input_size: int = 224
    crop_pct: float = 0.875
    crop_mode: str = "center"
    interpolation: str = "bicubic"

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Evaluation":
        """The preparation by options of ``create_transform``, of which others do not count."""
        return cls(**{name: options[name] for name in cls._fields if name in options})

    def options(self) -> dict[str, Any]:
        """The options of ``create_transform``."""
        return self._asdict()

    def __str__(self) -> str:
        shape = "" if self.crop_mode == "center" else f" ({self.crop_mode})"
        return f"{self.input_size} pixels, crop ratio {self.crop_pct:g}{shape}, {self.interpolation}"

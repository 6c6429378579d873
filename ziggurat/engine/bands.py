"""Networks of other channels than RGB's three, by ``model.backbone.in_chans``: what the rest of a config makes of it.

The completion takes out the steps that change colours, and gives mm's models a preprocessor that normalises any number
of channels. ``mean`` and ``std`` are numbers for each channel, or ``"weights"``.
"""

from typing import Any

import numpy as np
import torch

from backbones.errors import UserError
from backbones.weights.normalisation import numbers_for
from ziggurat.engine.console import say_note
from ziggurat.engine.parts import kind_of
from ziggurat.engine.reading import channels_of, dicts_in

# Steps of mm's pipelines that change colours or join images, and that are written for images of three channels.
COLOUR_STEPS = (
    "Albu",
    "AutoAugment",
    "AutoContrast",
    "Brightness",
    "CLAHE",
    "CachedMixUp",
    "CachedMosaic",
    "Color",
    "ColorTransform",
    "Contrast",
    "Equalize",
    "MixUp",
    "Mosaic",
    "PhotoMetricDistortion",
    "RandAugment",
    "Rerange",
    "RGB2Gray",
    "Sharpness",
    "YOLOXHSVRandomAug",
)
# mm's preprocessors -> ours, which take any number of channels.
PREPROCESSORS = {"DetDataPreprocessor": "DetBandsPreprocessor", "SegDataPreProcessor": "SegBandsPreprocessor"}


class AnyChannels:
    """A base class to put before mmengine's ImgDataPreprocessor, which normalises one channel or three.

    Args:
        mean, std: of each channel, 0..255, in the order of the file; None does not normalise.
        **kwargs: as for mmengine's class. The channels keep their order.
    """

    def __init__(self, *, mean: Any = None, std: Any = None, **kwargs: Any):
        first = (None, None) if mean is None else (mean[:1], std[:1])
        super().__init__(mean=first[0], std=first[1], **kwargs)
        if mean is not None:
            for name, values in (("mean", mean), ("std", std)):
                self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(-1, 1, 1), persistent=False)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """As mmengine's; UserError for images of other channels than ``mean`` has."""
        wanted = len(self.mean) if hasattr(self, "mean") else 1
        for image in data["inputs"]:
            if wanted not in (1, image.shape[-3]):
                raise UserError(f"images have {image.shape[-3]} channels; allowed: {wanted}, as mean has")
        return super().forward(data, training)


class PadsAnyChannels:
    """A base class to put before mmcv's Pad, whose OpenCV pads up to four channels."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        whole = results["img"]
        if whole.ndim == 2:
            return super().transform(results)
        results = super().transform({**results, "img": np.ascontiguousarray(whole[..., 0])})
        padded = np.full((*results["img"].shape, whole.shape[2]), self.pad_val.get("img", 0), whole.dtype)
        padded[: whole.shape[0], : whole.shape[1]] = whole
        return {**results, "img": padded}


def use_channels(cfg: Any) -> None:
    """Completes a config whose network takes other channels than three, in place. A note says what was taken out.

    Images of one channel lose the steps of colours as well.
    """
    channels = channels_of(cfg.get("model"))
    if channels in (None, 3):
        return
    left_out: list[str] = []
    for part in [cfg, *dicts_in(cfg)]:
        for key in list(part.keys()):
            if isinstance(part[key], list | tuple):
                part[key] = without_colours(part[key], left_out)
    for part in dicts_in(cfg):
        kind = kind_of(part) if isinstance(part.get("type"), str | type) else ""
        if kind in PREPROCESSORS:
            part["type"] = PREPROCESSORS[kind]
            is_bgr = not part.pop("bgr_to_rgb", False)
            part.pop("rgb_to_bgr", None)
            complete_numbers(part, channels, is_bgr)
        elif kind == "BatchPreprocessor" or kind in PREPROCESSORS.values():
            complete_numbers(part, channels)
        if kind == "Pad":
            part["type"] = "PadBands"
        if isinstance(part.get("pad_val"), dict) and isinstance(part["pad_val"].get("img"), list | tuple):
            part["pad_val"]["img"] = part["pad_val"]["img"][0]
    left_out += colours_of_timm(cfg)
    if left_out:
        names = ", ".join(dict.fromkeys(left_out))
        say_note(f"in_chans={channels}: left out, since they are for images in RGB: {names}")


def complete_numbers(preprocessor: Any, channels: int, is_bgr: bool = False) -> None:
    """Gives a preprocessor a mean and std for each channel, where it has those of RGB, such as a base's.

    Args:
        preprocessor: its config, changed in place.
        channels: of the images.
        is_bgr: whether three numbers are in the order BGR.

    Raises:
        UserError: there is another number of them.
    """
    for name in ("mean", "std"):
        values = preprocessor.get(name)
        if not isinstance(values, list | tuple) or len(values) in (1, channels):
            continue
        if len(values) != 3:
            raise UserError(
                f"model.data_preprocessor.{name} has {len(values)} numbers, and model.backbone.in_chans is {channels}; "
                f'allowed: {channels} numbers, 3 for RGB, 1 for all channels, or "weights"'
            )
        preprocessor[name] = list(numbers_for(values[::-1] if is_bgr else values, channels))


def without_colours(steps: Any, left_out: list[str]) -> Any:
    """A list without the configs of colour steps, at any depth. ``left_out`` gets their names."""
    kept = []
    for step in steps:
        if isinstance(step, dict) and isinstance(step.get("type"), str | type) and kind_of(step) in COLOUR_STEPS:
            left_out.append(kind_of(step))
        else:
            kept.append(without_colours(step, left_out) if isinstance(step, list | tuple) else step)
    return type(steps)(kept) if isinstance(steps, list | tuple) else steps


def colours_of_timm(cfg: Any) -> list[str]:
    """The options of colours in the transforms of classification's data sets, which build no such step then."""
    names = ("auto_augment", "color_jitter", "grayscale_prob", "gaussian_blur_prob")
    transforms = [part["transform"] for part in dicts_in(cfg) if isinstance(part.get("transform"), dict)]
    return [name for transform in transforms for name in names if transform.get(name)]

"""The arguments of ``Predictor``: their checks, and what a checkpoint decides against them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from PIL import Image
from torch import Tensor, nn

from backbones.checks import check_device
from backbones.errors import UserError, shown
from backbones.files import is_exported, is_path
from backbones.images import as_pixels
from backbones.pixels import as_8_bits, check_dense, to_channels
from backbones.reading import READING, Reading
from ziggurat.engine.cli import CONFIG_SUFFIXES
from ziggurat.engine.num_classes import AGNOSTIC
from ziggurat.engine.options import flat, parse_options
from ziggurat.engine.structure import networks_of


def check_given(given: Any, checkpoint: Any) -> None:
    """Raises UserError unless these are a checkpoint, or a config and a checkpoint."""
    if not isinstance(given, str | Path | Config):
        raise UserError(f"config_or_checkpoint is {given!r}; allowed: the path of a checkpoint or config, or a Config")
    if not isinstance(checkpoint, str | Path | None):
        raise UserError(f"checkpoint is {checkpoint!r}; allowed: the path of a checkpoint, None")
    for path in (given, checkpoint):
        if isinstance(path, str | Path) and not is_path(str(path)):
            raise UserError(f"the path {shown(str(path))} is longer than paths can be, or holds the character 0")
    for path, other in ((given, checkpoint), (checkpoint, given)):
        if is_exported(path) and other is not None:
            raise UserError(f"{path} is an exported file, which has its weights and its config; allowed: it alone")
    if checkpoint is None and (isinstance(given, Config) or Path(given).suffix in CONFIG_SUFFIXES):
        name = given.filename or "Config" if isinstance(given, Config) else given
        raise UserError(f"{name} is a config; a checkpoint is needed too")


def device_of(device: Any) -> torch.device:
    """The device; the CPU for None. A number is that of a GPU, as in PyTorch."""
    if isinstance(device, bool) or not isinstance(device, str | int | torch.device | None):
        raise UserError(f"device is {device!r}; allowed: text such as 'cpu' and 'cuda:1', a GPU's number, None")
    return check_device("cpu" if device is None else device)


def options_of(cfg_options: Any) -> dict[str, Any]:
    """``cfg_options`` as a dict. One text is one option."""
    if isinstance(cfg_options, dict) and all(isinstance(key, str) for key in cfg_options):
        return cfg_options
    texts = [cfg_options] if isinstance(cfg_options, str) else cfg_options or []
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise UserError(f"cfg_options is {cfg_options!r}; allowed: {{'KEY': VALUE}} or ['KEY=VALUE', ...]")
    return parse_options(list(texts))


def refuse_contradictions(options: dict[str, Any], model: nn.Module, names: Any, source: str) -> None:
    """Raises UserError for an option that differs from what the checkpoint decides: classes, the network's structure.

    Args:
        options: changes of the config, ``{"model.backbone.norm_eps": 1e-2}``.
        model: the model with the structure of the checkpoint.
        names: the class names in the checkpoint, or None.
        source: the checkpoint, for the message.
    """
    networks = networks_of(model)
    for key, value in flat(options).items():
        name = key.split(".")[-1]
        decided = [net.arguments()[name] for net in networks if name in net.SETTLED_BY_WEIGHTS]
        if names and name == "num_classes" and not set(AGNOSTIC) & set(key.split(".")):
            decided = [len(names)]
        elif names and key == "classes":
            decided = [list(names)]
        if value is not None and decided and all(plain(value) != plain(one) for one in decided):
            raise UserError(f"option {key}={value!r} contradicts {source}, which has {decided[0]!r}; leave it out")


def plain(value: Any) -> Any:
    """Lists and tuples of one content as equal values."""
    return list(value) if isinstance(value, list | tuple) else value


def names_of(content: dict[str, Any], own: dict[str, Any], source: str) -> Sequence[str] | None:
    """The class names in a checkpoint; None if there are none.

    They are in our meta, in mmengine's ``meta["dataset_meta"]``, or in ``meta["CLASSES"]`` of mmdet 2 and mmseg 0.

    Raises:
        UserError: they are no list of names.
    """
    meta = content.get("meta")
    theirs = meta.get("dataset_meta") if isinstance(meta, dict) else None
    if not isinstance(theirs, dict | None):
        raise UserError(f"{source} is damaged: its dataset_meta is {theirs!r}; allowed: a dict")
    older = meta.get("CLASSES") if isinstance(meta, dict) else None
    names = own.get("classes") or (theirs or {}).get("classes") or older
    names = [names] if isinstance(names, str) else names
    if names is None:
        return None
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str | int) for name in names):
        raise UserError(f"{source} is damaged: its classes are {names!r}; allowed: a list of names")
    return names


def pixels_of(image: Image.Image | np.ndarray | Tensor, reading: Reading = READING) -> np.ndarray:
    """An image in memory as uint8 (H, W, C), C being the rule's channels. Three channels are RGB.

    Raises:
        UserError: the image has another shape, or values outside their range.
    """
    channels = reading.channels
    if isinstance(image, Image.Image):
        return as_pixels(to_channels(image, reading, "image"))
    if isinstance(image, np.ndarray):
        if image.dtype.kind not in "uif" or image.dtype.itemsize > 8:
            raise UserError(f"image has values of type {image.dtype}; allowed: integers or floats")
        array = image[..., None].repeat(channels, -1) if image.ndim == 2 and reading.is_picture else image
    else:
        if isinstance(image, Tensor):
            check_dense(image, "image")
        array = image.permute(1, 2, 0).cpu() if isinstance(image, Tensor) and image.ndim == 3 else None
    if array is None or array.ndim != 3 or array.shape[2] != channels:
        got = tuple(getattr(image, "shape", ())) or type(image).__name__
        forms = f"an array (H, W, {channels}) or a tensor ({channels}, H, W)"
        raise UserError(f"image is {got}; allowed: a path, a PIL image, {forms}")
    return as_8_bits(array, "image", reading)

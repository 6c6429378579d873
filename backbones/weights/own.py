"""The dict in which an own checkpoint describes itself, so that it loads without a config."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from backbones.errors import UserError
from backbones.version import __version__
from backbones.weights.network import is_network, unwrapped

FORMAT = 1
TUPLE = "__tuple__"  # JSON has no tuples: (1, 2) is written as {"__tuple__": [1, 2]}


def own_meta(
    net: nn.Module,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    task: str | None = None,
    classes: Sequence[str] | None = None,
    config: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The dict for ``meta["ziggurat"]`` of a checkpoint, in plain types that a weights-only read can restore.

    JSON (:func:`to_json`, :func:`from_json`) restores the same dict. Tuples stay tuples, since a config's
    ``Resize(scale=(1333, 800))`` takes no list.

    Args:
        net: a backbone, or a model with ``.backbone``, wrapped or not. A model without a network of ours gets
            ``backbone=None``.
        mean, std: the normalisation of each channel of an image in 0..1, in the network's channel order; None if
            unknown.
        task: ``"classification"``, ``"detection"``, ``"segmentation"`` or None.
        classes: the class names, in the order of the outputs.
        config: the completed config of the run, as nested dicts.

    Returns:
        ``format``, ``version``, ``task``, ``backbone`` (the network's arguments), ``classes``, ``mean``, ``std`` and
        ``config``.
    """
    net = unwrapped(net)
    backbone = unwrapped(net._modules.get("backbone") or net)
    return to_plain_data(
        dict(
            format=FORMAT,
            version=__version__,
            task=task,
            backbone=backbone.arguments() if is_network(backbone) else None,
            classes=None if classes is None else list(classes),
            mean=None if mean is None else list(mean),
            std=None if std is None else list(std),
            config=config,
        )
    )


def read_own_meta(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """The dict of :func:`own_meta` in a checkpoint's content; None if the checkpoint is not ours.

    Raises:
        UserError: the checkpoint was written in a later format, or the dict is damaged.
    """
    meta = content.get("meta")
    own = meta.get("ziggurat") if isinstance(meta, Mapping) else None
    if own is None:
        return None
    if not isinstance(own, Mapping) or not isinstance(own.get("format"), int):
        raise UserError("the checkpoint's meta.ziggurat is damaged; allowed: a dict with an integer format")
    if own["format"] > FORMAT:
        version = f"it was written by Ziggurat {own.get('version')}"
        raise UserError(f"the checkpoint's format is {own['format']}, {version}; allowed: up to {FORMAT}")
    backbone = own.get("backbone")
    if backbone is not None and not (isinstance(backbone, Mapping) and isinstance(backbone.get("arch"), str)):
        raise UserError("the checkpoint's meta.ziggurat.backbone is damaged; allowed: a dict with arch")
    for name in ("mean", "std"):
        values = own.get(name)
        if values is not None and not (isinstance(values, list) and all(type(v) in (int, float) for v in values)):
            raise UserError(f"the checkpoint's {name} is {values!r}; allowed: a list of numbers")
    absent = dict.fromkeys(("version", "task", "backbone", "classes", "mean", "std", "config"))
    return absent | dict(own)


def to_plain_data(value: Any) -> Any:
    """Turns a value into nested dicts, lists, tuples, texts, numbers, True, False and None.

    An array becomes lists. Any other object becomes its text.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): to_plain_data(part) for key, part in value.items()}
    if isinstance(value, tuple):
        return tuple(to_plain_data(part) for part in value)
    if isinstance(value, list | set | frozenset):
        return [to_plain_data(part) for part in value]
    return to_plain_data(value.tolist()) if hasattr(value, "tolist") else str(value)


def to_json(own: Mapping[str, Any]) -> str:
    """The dict of :func:`own_meta` as JSON text."""

    def marked(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: marked(part) for key, part in value.items()}
        parts = [marked(part) for part in value] if isinstance(value, list | tuple) else value
        return {TUPLE: parts} if isinstance(value, tuple) else parts

    return json.dumps(marked(own))


def from_json(text: str) -> dict[str, Any]:
    """The dict that :func:`to_json` was given."""
    return json.loads(text, object_hook=lambda found: tuple(found[TUPLE]) if found.keys() == {TUPLE} else found)

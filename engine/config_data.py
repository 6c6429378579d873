"""A config as plain data that a checkpoint carries, and back. No text of a checkpoint is ever run."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from backbones.errors import UserError
from engine.tasks import TASKS, task_for

# A registered name, with an mm library's scope or without. Other dotted names would be imported and called.
REGISTERED = re.compile(r"((mmengine|mmcv|mmdet|mmseg)\.)?\w+")
TUPLE = "tuple()"  # the key of a dict that stands for a tuple: JSON has lists only, and mm's transforms ask for tuples


def to_data(part: Any) -> Any:
    """A config, or a part of one, as dicts with text keys, lists, texts, numbers, True, False and None.

    Example: ``dict(scale=(1333, 800))`` becomes ``{"scale": {"tuple()": [1333, 800]}}``. What is none of these types,
    such as a class, becomes its text.
    """
    if isinstance(part, Config):
        part = part.to_dict()
    if isinstance(part, Mapping):
        return {str(key): to_data(value) for key, value in part.items()}
    if isinstance(part, tuple):
        return {TUPLE: [to_data(value) for value in part]}
    if isinstance(part, list | set):
        return [to_data(value) for value in part]
    return part if part is None or isinstance(part, str | bool | int | float) else str(part)


def from_data(part: Any) -> Any:
    """What ``to_data`` was given, as dicts, lists, tuples and plain values."""
    if isinstance(part, Mapping):
        return tuple(map(from_data, part[TUPLE])) if TUPLE in part else {k: from_data(v) for k, v in part.items()}
    return [from_data(value) for value in part] if isinstance(part, list) else part


def config_from(data: Any, source: str | Path) -> Config:
    """The config that a checkpoint carries.

    Args:
        data: from ``to_data``.
        source: the checkpoint, for messages.

    Raises:
        UserError: it is no config, belongs to no task, imports modules of others, or names what a registry would
            import instead of look up. The config as a file may do all of this.
    """
    if not isinstance(data, Mapping):
        raise UserError(f"{source} carries no config; give the config it was trained with before it")
    plain = from_data(data)
    refuse_unregistered(plain, source)
    cfg = Config(plain)
    imports = (cfg.get("custom_imports") or {}).get("imports") or []
    for name in [imports] if isinstance(imports, str) else imports:
        if name.split(".")[0] not in TASKS:
            raise UserError(f"the config in {source} imports {name}; give the config as a file, which may import it")
    task_for(cfg)
    return cfg


def refuse_unregistered(part: Any, source: str | Path) -> None:
    """Raises UserError where a part of a config has a ``type`` that is not just a registered name."""
    if isinstance(part, dict):
        kind = part.get("type")
        if isinstance(kind, str) and not REGISTERED.fullmatch(kind):
            raise UserError(f"the config in {source} has type={kind!r}; allowed: registered names, e.g. mmdet.FPN")
    for value in part.values() if isinstance(part, dict) else part if isinstance(part, list | tuple) else ():
        refuse_unregistered(value, source)

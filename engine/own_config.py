"""The config that a checkpoint carries. No text of a checkpoint is ever run, and nothing that it names is imported."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from backbones.errors import UserError
from engine.tasks import TASKS, task_for

# A registered name, with an mm library's scope or without. mmengine would import and call any other dotted name.
REGISTERED = re.compile(r"((mmengine|mmcv|mmdet|mmseg)\.)?\w+")


def config_from(plain: Any, source: str | Path) -> Config:
    """The completed config that a run wrote into its checkpoint.

    Args:
        plain: ``config`` of ``backbones.weights.read_own_meta``.
        source: the checkpoint, for messages.

    Raises:
        UserError: there is no config, it belongs to no task, it imports other modules than a task, or a ``type`` in it
            is not just a registered name. A config that is given as a file may do all of this.
    """
    if not isinstance(plain, Mapping):
        raise UserError(f"{source} carries no config; give the config it was trained with before it")
    refuse_unregistered(plain, source)
    cfg = Config(dict(plain))
    imports = (cfg.get("custom_imports") or {}).get("imports") or []
    for name in [imports] if isinstance(imports, str) else imports:
        if name.split(".")[0] not in TASKS:
            raise UserError(f"the config in {source} imports {name}; give the config as a file, which may import it")
    task_for(cfg)
    return cfg


def refuse_unregistered(part: Any, source: str | Path) -> None:
    """Raises UserError where a part of a config has a ``type`` that is not just a registered name."""
    if isinstance(part, Mapping):
        kind = part.get("type")
        if isinstance(kind, str) and not REGISTERED.fullmatch(kind):
            raise UserError(f"the config in {source} has type={kind!r}; allowed: registered names, e.g. mmdet.FPN")
    for value in part.values() if isinstance(part, Mapping) else part if isinstance(part, list | tuple) else ():
        refuse_unregistered(value, source)

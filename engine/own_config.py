"""The config that a checkpoint carries. Its text is never run, and it imports no module except a task's package."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from backbones.errors import UserError
from engine.tasks import TASKS, task_for

# A registered name, with the scope of an mm library or without. mmengine would import and call any other dotted name.
REGISTERED = re.compile(r"((mmengine|mmcv|mmdet|mmseg)\.)?\w+")


def config_from(content: Any, source: str | Path) -> Config:
    """The completed config that a run wrote into its checkpoint.

    Args:
        content: ``config`` of ``backbones.weights.read_own_meta``.
        source: the checkpoint, for messages.

    Raises:
        UserError: there is no config, or it names no task, imports other modules, or has a ``type`` that is not a
            registered name. A config in a file may import modules and use other types.
    """
    if not isinstance(content, Mapping):
        raise UserError(f"{source} carries no config; give the config of its training before the checkpoint")
    refuse_unregistered(content, source)
    cfg = Config(dict(content))
    imports = (cfg.get("custom_imports") or {}).get("imports") or []
    for name in [imports] if isinstance(imports, str) else imports:
        if name.split(".")[0] not in TASKS:
            raise UserError(f"the config in {source} imports {name}; give the config as a file, which may import it")
    task_for(cfg)
    return cfg


def refuse_unregistered(part: Any, source: str | Path) -> None:
    """Raises UserError if a part of a config has a ``type`` that is not a registered name."""
    if isinstance(part, Mapping):
        kind = part.get("type")
        if isinstance(kind, str) and not REGISTERED.fullmatch(kind):
            raise UserError(f"the config in {source} has type={kind!r}; allowed: registered names, e.g. mmdet.FPN")
    for value in part.values() if isinstance(part, Mapping) else part if isinstance(part, list | tuple) else ():
        refuse_unregistered(value, source)

"""Which of the three tasks a config belongs to."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from backbones.errors import UserError
from ziggurat.root import TASKS

if TYPE_CHECKING:  # a list of configs needs neither, and they take a second
    from mmengine.config import Config

    from ziggurat.engine.task import Task

__all__ = ["TASKS", "task_for", "task_named", "task_of", "task_of_published"]


def task_of(cfg: Config) -> str:
    """The package, one of ``TASKS``, that the config's ``custom_imports`` names.

    Raises:
        UserError: the config names none of them.
    """
    imports = (cfg.get("custom_imports") or {}).get("imports") or []
    for name in [imports] if isinstance(imports, str) else imports:
        if name.split(".")[0] in TASKS:
            return name.split(".")[0]
    allowed = ", ".join(TASKS)
    raise UserError(f"config {cfg.filename} names no task; add custom_imports = dict(imports=[TASK]), TASK: {allowed}")


def task_of_published() -> Task:
    """The task whose published weights are whole models: classification. Its package is imported here."""
    return task_named(TASKS[0])


def task_named(name: str) -> Task:
    """The task of one of ``TASKS``. Its package is imported here."""
    return importlib.import_module(name).TASK


def task_for(cfg: Config) -> Task:
    """The config's task. Its package is imported here. Raises UserError as :func:`task_of`."""
    return task_named(task_of(cfg))

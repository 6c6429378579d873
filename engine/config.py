"""Configs: reading them with one-line errors, and changing them from the command line.

One option points every data set and evaluator of a config at other data: ``--cfg-options data_root=FOLDER``. The option
sets the top-level ``data_root``, which data sets without a root of their own use. In configs of mm's style each data
set repeats the root. So the option also rewrites every path of the config that lies in the old ``data_root``.
"""

import difflib
import inspect
import os
import sys
from pathlib import Path, PurePath
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner

from backbones.errors import UserError, unknown
from engine.complete import WEIGHTS, complete
from engine.inherited import check_names
from engine.options import parse_options
from engine.tasks import TASKS, task_for, task_of

REPOSITORY = Path(__file__).resolve().parent.parent
__all__ = ["load_config", "parse_options", "task_for", "task_of"]
RUNNER_KEYS = {
    *inspect.signature(Runner.__init__).parameters,
    "activation_checkpointing",
    "compile",
    "custom_imports",
    "efficient_conv_bn_eval",
    "find_unused_parameters",
    "model_wrapper_cfg",
    "sync_bn",
} - {"self", "cfg"}
# Every top-level key that a run reads. mmengine's Runner reads the first group, our completion and tools the others.
READ_KEYS = (
    RUNNER_KEYS
    | {"train_pipeline", "test_pipeline"}
    | {"data_root", "classes", "reduce_zero_label", "tta_model", "tta_pipeline", "auto_scale_lr"}
)


def load_config(path: str | Path, cfg_options: list[str] | dict[str, Any] | None = None) -> Config:
    """Reads a config, changes it by options, and completes it.

    Args:
        path: a config file.
        cfg_options: ``["optim_wrapper.optimizer.lr=1e-4", ...]`` or ``{"optim_wrapper.optimizer.lr": 1e-4, ...}``. A
            dot leads into a nested dict.

    Raises:
        UserError: the config is absent (the message has the nearest names) or cannot be read, an option is bad, or the
            config cannot be completed, as in ``engine.complete.complete``.
    """
    path = Path(path)
    if not path.is_file():
        raise unknown_config(path)
    try:
        cfg = Config.fromfile(path)
    except UserError:
        raise
    except Exception as error:  # a config is a program, and can raise any error
        raise UserError(f"config {path} cannot be read: {one_line(error)}") from error
    check_names(cfg, path, READ_KEYS)
    options = cfg_options if isinstance(cfg_options, dict) else parse_options(cfg_options or [])
    arch = arch_of(cfg)
    apply_options(cfg, options, path)
    if arch_of(cfg) != arch and path.resolve().is_relative_to(REPOSITORY):
        follow_arch(cfg, options)
    complete(cfg)
    return cfg


def apply_options(cfg: Config, options: dict[str, Any], path: Path) -> None:
    options = dict(options)
    known = set(cfg) | READ_KEYS
    for key in options:
        if key.split(".")[0] not in known:
            raise unknown(f"option of {path.name}", key.split(".")[0], sorted(known))
    if "data_root" in options:
        move_data_root(cfg, str(options.pop("data_root")))
    try:
        cfg.merge_from_dict(options)
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise UserError(f"options {', '.join(options)} do not fit {path}: {one_line(error)}") from None


def arch_of(cfg: Config) -> Any:
    """The arch of ``model.backbone``, or None."""
    backbone = (cfg.get("model") or {}).get("backbone")
    return backbone.get("arch") if isinstance(backbone, dict) else None


def follow_arch(cfg: Config, options: dict[str, Any]) -> None:
    """Replaces mean and std typed in one of our leaves by ``"weights"``, after an option has changed the arch.

    Such numbers belong to the weights of the old arch. A user's own config keeps its numbers, since they may describe
    the images.
    """
    preprocessor = cfg.model.get("data_preprocessor") or {}
    typed = [name for name in ("mean", "std") if preprocessor.get(name) not in (None, WEIGHTS)]
    typed = [name for name in typed if f"model.data_preprocessor.{name}" not in options]
    for name in typed:
        preprocessor[name] = WEIGHTS
    if typed:
        print(
            f"note: {' and '.join(typed)} of the config give way to those of {arch_of(cfg)}'s weights", file=sys.stderr
        )


def move_data_root(cfg: Config, new: str) -> None:
    """Sets ``cfg.data_root``, and changes every path of the config that is in the old root."""
    old = cfg.get("data_root")
    if old:
        for key, value in cfg.items():
            if key != "work_dir":
                cfg[key] = with_new_root(value, PurePath(old), new)
    cfg.data_root = new


def with_new_root(value: Any, old: PurePath, new: str) -> Any:
    """``value`` with ``new`` in place of ``old`` at the beginning of every path inside, e.g. ``data/coco/val2017/``."""
    if isinstance(value, dict):
        return ConfigDict({key: with_new_root(part, old, new) for key, part in value.items()})
    if isinstance(value, list | tuple):
        return type(value)(with_new_root(part, old, new) for part in value)
    if isinstance(value, str) and value and PurePath(value).is_relative_to(old):
        inside = PurePath(value).relative_to(old)
        return new if inside == PurePath() else str(PurePath(new) / inside) + ("/" if value.endswith("/") else "")
    return value


def unknown_config(path: Path) -> UserError:
    """The error for an absent config. It gives the paths, from the current folder, of configs with similar names."""
    files = [file for task in TASKS for file in REPOSITORY.glob(f"{task}/configs/*/*.py")]
    by_stem = {file.stem: os.path.relpath(file) for file in files if file.parent.name != "_base_"}
    nearest = [by_stem[stem] for stem in difflib.get_close_matches(path.stem, by_stem, n=3, cutoff=0.5)]
    folders = (os.path.relpath(REPOSITORY / task / "configs") for task in TASKS)
    hint = f"nearest: {', '.join(nearest)}" if nearest else f"see {', '.join(folders)}"
    return UserError(f"no such config: {path}; {hint}")


def one_line(error: BaseException) -> str:
    """An exception's class and message on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"

"""Which configs of mmdet and mmseg are tried: one of every folder, and one of every set of model, neck and heads.

The configs are those that the packages carry. They are named as in a ``_base_``, e.g.
``mmdet::atss/atss_r50_fpn_1x_coco.py``.
"""

import importlib
import logging
import warnings
from pathlib import Path
from typing import Any

from mmengine.config import Config

LIBRARIES = ("mmdet", "mmseg")
OTHER_KEYS = ("backbone", "data_preprocessor", "train_cfg", "test_cfg")  # of a model; they hold no heads
PAIRS = "levir"  # in names of configs that find changes between two images, which is another task
ROLES = ("model", "detector", "neck", "tracker", "head", "decoder", "extractor", "encoder", "layer")  # ends of keys


def versions() -> dict[str, str]:
    """The versions of the libraries whose configs are tried."""
    return {name: importlib.import_module(name).__version__ for name in LIBRARIES}


def config_folder(library: str) -> Path:
    """Where a library's package carries its configs."""
    return Path(importlib.import_module(library).__file__).parent / ".mim/configs"


def folders(library: str) -> dict[str, list[Path]]:
    """The config files of each folder of a library, the shortest name first."""
    found: dict[str, list[Path]] = {}
    root = config_folder(library)
    for path in sorted(root.glob("*/**/*.py"), key=lambda path: (len(path.name), str(path))):
        folder = path.relative_to(root).parts[0]
        if folder != "_base_" and PAIRS not in path.name:
            found.setdefault(folder, []).append(path)
    return dict(sorted(found.items()))


def choose() -> list[dict[str, Any]]:
    """The rows of the table: ``config``, ``model`` (the type) and ``parts`` (the types of neck and heads).

    A folder's first row is its shortest name. Its other rows are combinations that no other row has.
    """
    rows, seen = [], set()
    for library in LIBRARIES:
        read = {folder: read_all(paths) for folder, paths in folders(library).items()}
        firsts = [next(iter(models.items())) for models in read.values() if models]
        rest = [pair for models in read.values() for pair in list(models.items())[1:]]
        for i, (path, model) in enumerate([*firsts, *rest]):
            parts = parts_of(model)
            if i < len(firsts) or frozenset(parts) not in seen:
                name = f"{library}::{path.relative_to(config_folder(library)).as_posix()}"
                rows.append(dict(config=name, model=parts[0][1], parts=[kind for _, kind in parts[1:]]))
            seen.add(frozenset(parts))
    return sorted(rows, key=lambda row: row["config"])


def read_all(paths: list[Path]) -> dict[Path, Any]:
    """The model of every file that is a whole config. Files that cannot be read, or have no model, are left out."""
    models = {}
    logging.disable(logging.WARNING)
    for path in paths:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = Config.fromfile(path, import_custom_modules=False).get("model")
        except Exception:  # a base that the package lacks, or one of mmpretrain
            continue
        if isinstance(model, dict) and isinstance(model.get("type"), str):
            models[path] = model
    logging.disable(logging.NOTSET)
    return models


def parts_of(part: Any, role: str = "model") -> list[tuple[str, str]]:
    """The role and type of a model and of its necks and heads, in the config's order, each once."""
    found: dict[tuple[str, str], None] = {}
    if isinstance(part, dict):
        if isinstance(part.get("type"), str) and role.endswith(ROLES):
            found[role, part["type"].rpartition(".")[2]] = None
        for key, value in part.items():
            if key not in OTHER_KEYS:
                found |= dict.fromkeys(parts_of(value, key))
    elif isinstance(part, list | tuple):
        for value in part:
            found |= dict.fromkeys(parts_of(value, role))
    return list(found)

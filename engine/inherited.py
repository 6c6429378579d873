"""Finds names that a config sets without effect.

Example: a child config says ``train_pipeline = [...]``. Its base has already built the loader with the old pipeline.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config

from backbones.errors import UserError

# Names that configs in mm's style give to parts of a loader. Only the loader's own value counts.
PIPELINES = {
    "train_pipeline": "train_dataloader.dataset.pipeline",
    "val_pipeline": "val_dataloader.dataset.pipeline",
    "test_pipeline": "val_dataloader.dataset.pipeline",
}


def check_names(cfg: Config, path: Path, read: set[str]) -> None:
    """Raises UserError for a name that the file at ``path`` sets and that changes nothing in ``cfg``.

    A name has an effect if a run reads it, if the file itself reads it, or if some part of the config has its value.

    Args:
        cfg: the config of the file and its bases, before options.
        path: the file.
        read: the keys that a run reads.

    Raises:
        UserError: a name of a base or a pipeline is set without effect. The message names the key to set instead.
    """
    if path.suffix != ".py":
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    suspects = [name for name in assigned(tree) if name in cfg and name not in names]
    suspects = [name for name in suspects if name in PIPELINES or name not in read]
    if not suspects:
        return
    inherited = {}
    for base in bases(tree, path):
        inherited |= Config.fromfile(base).to_dict()
    parts = {key: value for key, value in cfg.to_dict().items() if key in read and key not in PIPELINES}
    for name in suspects:
        value = cfg.to_dict()[name]
        if (name not in inherited and name not in PIPELINES) or next(places(parts, value), None):
            continue
        old = inherited.get(name)
        there = list(places({key: part for key, part in inherited.items() if key in read}, old)) if old else []
        instead = " and ".join(there) or PIPELINES.get(name)
        raise UserError(
            f"config {path}: {name} = ... changes nothing, since its base has been read already; "
            + (f"set {instead}" if instead else "set the key that the base makes of {name}")
        )


def without_helpers(cfg: Config, read: set[str]) -> Config:
    """A copy without helper names: names that no run reads, and whose value is part of another key."""
    content = cfg.to_dict()
    parts = {key: value for key, value in content.items() if key in read}
    used = {key for key, value in content.items() if next(places(parts, value, inside=True), None)}
    return Config({key: value for key, value in content.items() if key in read or key not in used})


def assigned(tree: ast.Module) -> list[str]:
    """The names that a file sets at its top level."""
    targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    return [target.id for target in targets if isinstance(target, ast.Name) and target.id != "_base_"]


def bases(tree: ast.Module, path: Path) -> Iterator[Path]:
    """The files that ``_base_`` names. Files of other packages (``"mmdet::..."``) are left out."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "_base_" for t in node.targets):
            named = ast.literal_eval(node.value)
            for name in [named] if isinstance(named, str) else named:
                if "::" not in name:
                    yield path.parent / name


def places(part: Any, value: Any, name: str = "", inside: bool = False) -> Iterator[str]:
    """The dotted keys at which ``part`` holds ``value``. With ``inside`` also dicts with all items of ``value``."""
    for key, found in part.items() if isinstance(part, dict) else enumerate(part):
        where = f"{name}.{key}" if name else str(key)
        merged = inside and isinstance(value, dict) and isinstance(found, dict) and value.items() <= found.items()
        if merged or (type(found) is type(value) and found == value):
            yield where
        elif isinstance(found, dict | list | tuple):
            yield from places(found, value, where, inside)

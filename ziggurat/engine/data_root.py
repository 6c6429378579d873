"""``data_root``: one name points every data set and evaluator of a config at other data.

Data sets without a root of their own use the top-level ``data_root``. In configs of mm's style each data set repeats
the root. So a new ``data_root`` also rewrites every path of the config that lies in the old root.
"""

from pathlib import Path, PurePath
from typing import Any

from mmengine.config import Config, ConfigDict

from ziggurat.engine.inherited import assigned, bases


def move_data_root(cfg: Config, new: str) -> None:
    """Sets ``cfg.data_root``, and changes every path of the config that is in the old root."""
    for key, value in moved(cfg, new).items():
        cfg[key] = value


def follow_data_root(cfg: Config, path: Path) -> None:
    """Moves the paths that a config inherits, if the file or a base has set ``data_root`` anew. Typed paths stay.

    Args:
        cfg: the config of the file and its bases, before options. It is changed in place.
        path: the file.
    """
    if resets_root(path):
        for key, value in ConfigDict(settled(cfg.to_dict(), path)).items():
            cfg[key] = value


def resets_root(path: Path) -> bool:
    """Whether the file, or one of its bases, has bases and sets ``data_root``."""
    found = bases(path)
    return ("data_root" in assigned(path) and bool(found)) or any(resets_root(base) for base in found)


def settled(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """``content`` of the file at ``path``, with each inherited path in the root that was set last."""
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    for base in bases(path):
        raw = Config.fromfile(base, import_custom_modules=False).to_dict()
        before |= raw
        after |= settled(raw, base)
    new, old = content.get("data_root"), after.get("data_root")
    if isinstance(new, str) and isinstance(old, str) and PurePath(new) != PurePath(old):
        after = moved(after, new)
    return replaced(content, before, after)


def replaced(part: Any, before: Any, after: Any) -> Any:
    """``part`` with the value of ``after`` at every key where ``part`` still has the value of ``before``."""
    if isinstance(part, dict) and isinstance(before, dict):
        both = {key for key in part if key in before}
        return {key: replaced(v, before[key], after[key]) if key in both else v for key, v in part.items()}
    if isinstance(part, list | tuple) and isinstance(before, list | tuple) and len(part) == len(before):
        return type(part)(replaced(*values) for values in zip(part, before, after, strict=True))
    return after if part == before else part


def moved(content: Any, new: str) -> dict[str, Any]:
    """The content of a config with the root ``new`` in place of its ``data_root``. ``work_dir`` stays."""
    old, parts = content.get("data_root"), dict(content.items())
    if old:
        parts |= {key: with_new_root(value, PurePath(old), new) for key, value in parts.items() if key != "work_dir"}
    return {**parts, "data_root": new}


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

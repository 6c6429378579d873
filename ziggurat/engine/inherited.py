"""Finds names that a config, or an option, sets without effect.

Example: a child config says ``train_pipeline = [...]``. Its base has already built the loader with the old pipeline.
"""

import ast
import functools
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import mmengine
from mmengine.config import Config

from backbones.errors import UserError, shorten

# Names that configs in mm's style give to parts of a loader. Only the loader's own value counts.
PIPELINES = {
    "train_pipeline": "train_dataloader.dataset.pipeline",
    "val_pipeline": "val_dataloader.dataset.pipeline",
    "test_pipeline": "val_dataloader.dataset.pipeline",
}


def check_names(cfg: Config, path: Path, read: set[str]) -> None:
    """Raises UserError for a name that the file at ``path`` sets and that changes nothing in ``cfg``.

    A name has an effect if a run reads it, if the file itself reads it, or if some part of the config has its value.
    A name that repeats the base's value does no harm.

    Args:
        cfg: the config of the file and its bases, before options.
        path: the file.
        read: the keys that a run reads.

    Raises:
        UserError: a name of a base or a pipeline is set without effect. The message names the key to set instead.
    """
    names = names_read(path)
    suspects = [name for name in assigned(path) if name in cfg and name not in names and not counts(name, read)]
    if not suspects:
        return
    content, inherited = plain(cfg.to_dict()), plain(inherited_by(path))
    parts = {key: value for key, value in content.items() if counts(key, read)}
    for name in suspects:
        value, old = content[name], inherited.get(name)
        if name not in inherited and name not in PIPELINES:
            continue
        there = keys_of(old, inherited, read)
        found = set(places(parts, value))
        if there and not isinstance(value, dict | list | tuple):  # another key can have the same number or text
            found &= set(there)
        if found or (name in inherited and value == old):
            continue
        instead = shorten(there) or PIPELINES.get(name)
        raise UserError(
            f"config {path}: {name} = ... changes nothing, since its base has been read already; "
            + (f"set {instead}" if instead else f"set the key that the base makes of {name}")
        )


def check_options(options: Iterable[str], cfg: Config, path: Path, read: set[str]) -> None:
    """Raises UserError for an option whose first name changes nothing, since the config made other keys of the name.

    Args:
        options: dotted keys.
        cfg: the config before options.
        path: the config's file.
        read: the keys that a run reads.
    """
    suspects = [key for key in options if not counts(key.split(".")[0], read)]
    content = plain(cfg.to_dict()) if suspects else {}
    for key in suspects:
        name, dot, rest = key.partition(".")
        there = keys_of(content.get(name), content, read)
        if not there and name in PIPELINES:
            there = [PIPELINES[name]]
        if there or name in names_read_by_all(path):
            instead = shorten(where + dot + rest for where in there) or f"the key that the config makes of {name}"
            raise UserError(f"option {key}=... changes nothing, since {path.name} has been read already; set {instead}")


def without_helpers(cfg: Config, read: set[str]) -> Config:
    """A copy without helper names: names that no run reads, and whose value is part of another key."""
    content = cfg.to_dict()
    parts = {key: value for key, value in content.items() if key in read}
    used = {key for key, value in content.items() if next(places(parts, value, inside=True), None)}
    return Config({key: value for key, value in content.items() if key in read or key not in used})


def counts(name: str, read: set[str]) -> bool:
    """Whether a run reads the top-level key. The completion writes the pipelines' names anew from the loaders."""
    return name in read and name not in PIPELINES


def keys_of(value: Any, content: dict[str, Any], read: set[str]) -> list[str]:
    """The dotted keys that hold a helper's value, or without such keys those that were merged from the value."""
    parts = {key: part for key, part in content.items() if counts(key, read)}
    return list(places(parts, value)) or list(places(parts, value, inside=True)) if value else []


def assigned(path: Path) -> list[str]:
    """The names that a file sets at its top level, without ``_base_``."""
    if path.suffix != ".py":
        return [name for name in mmengine.load(path) if name != "_base_"]
    targets = [target for node in tree_of(path).body if isinstance(node, ast.Assign) for target in node.targets]
    return [target.id for target in targets if isinstance(target, ast.Name) and target.id != "_base_"]


def names_read(path: Path) -> set[str]:
    """The names whose values a file uses, those of its bases (``_base_.name``) included."""
    nodes = list(ast.walk(tree_of(path)))
    own = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    attributes = [node for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
    return own | {node.attr for node in attributes if node.value.id == "_base_"}


def names_read_by_all(path: Path) -> set[str]:
    """The names whose values a file or any of its bases uses."""
    return names_read(path).union(*(names_read_by_all(base) for base in bases(path)))


def tree_of(path: Path) -> ast.Module:
    """The syntax of a config's file. A JSON or YAML file has no code."""
    return ast.parse(path.read_text(encoding="utf-8") if path.suffix == ".py" else "")


def inherited_by(path: Path) -> dict[str, Any]:
    """The content of all bases of a file."""
    content: dict[str, Any] = {}
    for base in bases(path):
        content |= Config.fromfile(base, import_custom_modules=False).to_dict()
    return content


def bases(path: Path) -> list[Path]:
    """The files that ``_base_`` of a file names, those of other packages (``"mmdet::..."``) included."""
    content = path.read_bytes()
    # The value of a {{ variable }} may change.
    return list(read_bases(path) if b"{{" in content else known_bases(path, content))


@functools.lru_cache(maxsize=512)
def known_bases(path: Path, content: bytes) -> list[Path]:
    """:func:`read_bases` of a file with this content."""
    return read_bases(path)


def read_bases(path: Path) -> list[Path]:
    with tempfile.TemporaryDirectory() as folder:  # mmengine too reads a copy with its {{ variables }} replaced
        copy = str(Path(folder) / path.name)
        Config._substitute_predefined_vars(str(path), copy)
        Config._substitute_env_variables(copy, copy)
        names = Config._get_base_files(copy)
    return [Path(Config._get_cfg_path(name, str(path))[0]) for name in names]


def plain(part: Any) -> Any:
    """A config without the keys ``_scope_``, which mmengine adds to parts of other packages' configs."""
    if isinstance(part, dict):
        return {key: plain(value) for key, value in part.items() if key != "_scope_"}
    return type(part)(plain(value) for value in part) if isinstance(part, list | tuple) else part


def places(part: Any, value: Any, name: str = "", inside: bool = False) -> Iterator[str]:
    """The dotted keys at which ``part`` holds ``value``.

    With ``inside`` also dicts with all items of ``value``, and lists in which the dicts of ``value`` follow each other.
    """
    for key, found in part.items() if isinstance(part, dict) else enumerate(part):
        where = f"{name}.{key}" if name else str(key)
        if (type(found) is type(value) and found == value) or (inside and is_inside(value, found)):
            yield where
        elif isinstance(found, dict | list | tuple):
            yield from places(found, value, where, inside)


def is_inside(value: Any, found: Any) -> bool:
    """Whether ``found`` was made of ``value`` by merging dicts or by unpacking a list of dicts."""
    if isinstance(value, dict) and isinstance(found, dict):
        return value.items() <= found.items()
    if not isinstance(value, list) or not isinstance(found, list) or not all(isinstance(one, dict) for one in value):
        return False
    return any(found[i : i + len(value)] == value for i in range(len(found))) if value else False

"""Configs as data, for ``--safe``: files with nothing but literals and ``_base_``, and parts that are registered."""

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from mmengine import fileio
from mmengine.config import Config

from backbones.errors import UserError, one_line, shown
from ziggurat.engine.config_text import FILLED_IN
from ziggurat.engine.project_configs import is_ours
from ziggurat.engine.registered import NEEDLESS, only_registered
from ziggurat.engine.tasks import TASKS

BASE = "_base_"
LARGEST = 10_000_000  # bytes of a config
ALLOWED = (
    "with --safe: numbers, texts, True, False, None, lists, tuples, sets, dicts and dict(...) of these, and _base_"
)


def check_file(path: str | Path) -> None:
    """Raises UserError if a config or a base of it is more than data, or imports others' modules. Nothing is run.

    The configs that come with this project are trusted as its code is.
    """
    queue, seen = [Path(path)], set()
    while queue:
        file = queue.pop()
        if file.resolve() in seen or is_ours(file):
            continue
        seen.add(file.resolve())
        content = content_of(file)
        check_imports(content.get("custom_imports"), file)
        bases = content.get(BASE, [])
        for base in bases if isinstance(bases, list) else [bases]:
            try:
                queue.append(Path(Config._get_cfg_path(base, str(file))[0]))
            except Exception as error:  # mmengine looks in the folders of installed packages
                raise UserError(
                    f"{file}: {BASE} is {shown(base)} ({one_line(error)}); allowed: a config file"
                ) from None


def check_model(cfg: Config) -> None:
    """Raises UserError if a ``type`` in the model is not registered, or a text in it may be a path or an expression."""
    model = cfg.get("model")
    if isinstance(model, Mapping):
        only_registered(without(model.to_dict(), NEEDLESS), "model")


def without(part: Any, names: set[str]) -> Any:
    if isinstance(part, Mapping):
        return {key: without(value, names) for key, value in part.items() if key not in names}
    return [without(value, names) for value in part] if isinstance(part, list | tuple) else part


def check_imports(given: Any, file: Path) -> None:
    names = given.get("imports") if isinstance(given, Mapping) else given
    for name in names if isinstance(names, list) else [names]:
        if name is None:
            continue
        if str(name).split(".")[0] not in TASKS:
            raise UserError(f"{file}: custom_imports has {shown(name)}; allowed with --safe: {', '.join(TASKS)}")


def content_of(file: Path) -> Mapping[str, Any]:
    """The names that a config file sets; UserError if the file cannot be read or is more than data."""
    try:
        if file.exists() and not (file.is_file() and file.stat().st_size <= LARGEST):
            raise ValueError(f"allowed: a file of at most {LARGEST} bytes")
        text = file.read_text(encoding="utf-8")
        if file.suffix != ".py":
            content, tree = fileio.load(str(file)), None
            if file.suffix != ".json" and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
                raise ValueError("it has aliases, by which few lines describe endless lists")
        else:
            content, tree = {}, ast.parse(text)
    except Exception as error:  # each parser has its own errors, and nesting can be too deep for it
        raise UserError(f"config {file} cannot be read: {one_line(error)}") from None
    if FILLED_IN in text:
        line = text[: text.index(FILLED_IN)].count("\n") + 1
        raise UserError(f"{file}, line {line}: {FILLED_IN} is filled in from outside; allowed {ALLOWED}")
    for node in tree.body if tree else ():
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):  # a docstring
            continue
        if not (isinstance(node, ast.Assign) and all(isinstance(target, ast.Name) for target in node.targets)):
            raise not_data(file, node)
        if any(target.id == BASE for target in node.targets) and BASE in content:
            raise UserError(f"{file}, line {node.lineno}: a second {BASE}; allowed: one")
        content |= dict.fromkeys((target.id for target in node.targets), value_of(node.value, file))
    if not isinstance(content, Mapping):
        raise UserError(f"config {file} holds a {type(content).__name__}; allowed: a dict")
    return content


def value_of(node: ast.expr, file: Path) -> Any:
    """The value of a literal, and of ``dict(...)`` of literals; UserError for another expression."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = value_of(node.operand, file)
        if isinstance(value, int | float | complex):
            return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return [value_of(part, file) for part in node.elts]
    if isinstance(node, ast.Dict) and None not in node.keys:
        keys = [str(value_of(key, file)) for key in node.keys]
        return dict(zip(keys, (value_of(value, file) for value in node.values), strict=True))
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "dict" and len(node.args) < 2:
        given = [value_of(part, file) for part in node.args]  # dict({"a b": 1}), as mmengine writes it
        named = {word.arg: word.value for word in node.keywords}
        if None not in named and all(isinstance(part, dict) for part in given):
            return {**(given[0] if given else {}), **{name: value_of(part, file) for name, part in named.items()}}
    raise not_data(file, node)


def not_data(file: Path, node: ast.AST) -> UserError:
    return UserError(f"{file}, line {node.lineno}: {shown(ast.unparse(node))} is not a literal; allowed {ALLOWED}")

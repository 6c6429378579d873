"""Building from a config that somebody else wrote: registered names only, no import and no other file.

If no registry has a ``type``, mmengine takes the name for the path of a function, imports its module, and calls it. A
config file may use this, since a config file is a program. A config inside a checkpoint is data, and may not.
"""

import contextlib
import importlib
import re
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from mmengine import registry
from mmengine.registry import DATASETS, FUNCTIONS, METRICS, MODELS, TASK_UTILS, TRANSFORMS

from backbones.errors import UserError
from ziggurat.engine.cli import is_safe

REGISTRIES = (MODELS, TASK_UTILS, TRANSFORMS, DATASETS, FUNCTIONS, METRICS)  # of all that is built here
SCOPES = {
    "mmengine": "ziggurat.engine.register",
    "mmdet": "detection",
    "mmseg": "segmentation",
}  # scope -> what fills it
# Operators that mmcv and mmdet look up in their own modules, and not in a registry.
OPERATORS = {"nms", "soft_nms", "RoIAlign", "RoIPool", "SimpleRoIAlign"}
# Their constructors fetch other models by a plain word.
FETCHERS = {"BertModel", "Detectron2Wrapper"}
# Words in the names of arguments that hold a path or address. mm loads most such files by pickle.
FILES = {"checkpoint", "ckpt", "dir", "file", "lang", "path", "root", "teacher", "tokenizer", "url"}
# Arguments that building for a checkpoint does not need: all weights come from the checkpoint, images from the user.
NEEDLESS = {"init_cfg", "pretrained", "class_map", "backend_args", "file_client_args"}
WORDS = re.compile(r"(\w|[ +-]|\.(?=\d))*")  # mode="bilinear", arch="regnetx_3.2gf"; no path, address or expression

NAMES_ONLY: ContextVar[bool] = ContextVar("NAMES_ONLY", default=False)


def only_registered(part: Any, place: str) -> Any:
    """A copy of a part of a config that is safe to build under :func:`names_only`.

    Arguments such as ``pretrained`` become None, since the checkpoint has all weights.

    Args:
        part: nested dicts, lists and tuples of plain values.
        place: the part's name in messages.

    Raises:
        UserError: a ``type`` or scope is not registered, a text may be a path or an expression, or a value is of
            another kind.
    """
    if isinstance(part, Mapping):
        return {key: safe_value(key, value, f"{place}.{key}") for key, value in part.items()}
    if isinstance(part, list | tuple):
        return type(part)(only_registered(value, f"{place}[{i}]") for i, value in enumerate(part))
    if isinstance(part, str):
        if not WORDS.fullmatch(part):
            raise UserError(f"{place} is {part!r}; allowed: plain words, no path, address or code")
    elif part is not None and not isinstance(part, bool | int | float):
        raise UserError(f"{place} is a {type(part).__name__}; allowed: dicts, lists, texts, numbers, True, False, None")
    return part


def safe_value(key: Any, value: Any, place: str) -> Any:
    """The value of one entry of a dict, as by :func:`only_registered`."""
    if not isinstance(key, str):
        raise UserError(f"{place}: a name is {key!r}; allowed: texts")
    if key in NEEDLESS:
        return None
    if key == "type":
        return check_type(value, place)
    if key == "_scope_":
        return check_scope(value, place)
    if isinstance(value, str) and (key == "class_weight" or FILES & set(key.lower().split("_"))):
        raise UserError(f"{place} is {value!r}; a checkpoint's config may not name another file")
    return only_registered(value, place)


def check_type(name: Any, place: str) -> str:
    """``name`` if it is registered, as in ``FPN`` and ``mmdet.FPN``; UserError otherwise. Only known modules load."""
    if isinstance(name, str):
        scope, _, short = name.rpartition(".")
        if name in OPERATORS or (scope in ("", *SCOPES) and short not in FETCHERS and short in names_in(scope)):
            return name
    raise UserError(f"{place} is {name!r}; allowed: registered names, e.g. 'FPN' or 'mmdet.FPN'")


def check_scope(name: Any, place: str) -> str:
    """``name`` if it is a scope of mm's registries, else UserError."""
    if name not in tuple(SCOPES):
        raise UserError(f"{place} is {name!r}; allowed: {', '.join(SCOPES)}")
    importlib.import_module(SCOPES[name])
    return name


def names_in(scope: str) -> set[str]:
    """The names in the registries of a scope. ``""`` means all scopes whose modules are loaded."""
    if scope:
        importlib.import_module(SCOPES[scope])
    names: set[str] = set()
    for root in REGISTRIES:
        known = {root.scope: root, **root.children}
        for one in known.values() if not scope else (known[scope],) if scope in known else ():
            names |= set(one.module_dict)
    return names


@contextlib.contextmanager
def names_only() -> Iterator[None]:
    """Inside the block, mmengine finds registered names only, and imports nothing but the modules of known scopes.

    Some constructors take such names in other arguments than ``type``, e.g. in ``resize_type``.
    """
    token = NAMES_ONLY.set(True)
    try:
        yield
    finally:
        NAMES_ONLY.reset(token)


def names_only_now() -> bool:
    return NAMES_ONLY.get() or is_safe()


def guard_lookup() -> None:
    """Puts a check of :func:`names_only_now` before the two functions by which mmengine's registries import modules."""
    module = registry.registry
    find, load = module.get_object_from_string, module.import_module

    def get_object_from_string(name: str) -> Any:
        return None if names_only_now() else find(name)

    def import_module(name: str, package: str | None = None) -> Any:
        if names_only_now() and name.split(".")[0] not in SCOPES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return load(name, package)

    module.get_object_from_string, module.import_module = get_object_from_string, import_module


guard_lookup()

"""The pickle inside a .pth file: what it may ask for, and how much it may hold once it is read."""

import math
import pickletools
import struct
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from backbones.errors import UserError

MAX_STEPS = 1_000_000  # instructions; VAN-B6 with its optimiser has 340,000
MAX_LONG = 10_000  # integers of more than 8 bytes: as keys of a dict, chosen ones take quadratic time
MAX_DEPTH = 100  # levels of dicts and lists
SLACK = 64 << 20  # bytes that a content may be larger than its file, besides the factor
FACTOR = 8  # of the file's size: a tensor that has several names is stored once
OLD_FORMAT = 5  # pickles one after another: a number, a version, the machine, the content, the names of storages
NEEDLESS = {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID"}  # other ways to ask for code
SLOW_CODECS = {"idna", "punycode"}  # of quadratic time

DTYPES = {name for name in dir(torch) if isinstance(getattr(torch, name), torch.dtype)}
STORAGES = {name for name in dir(torch) if name.endswith("Storage")} - {"TypedStorage", "UntypedStorage"}
ARRAYS = ("numpy.core.multiarray", "numpy._core.multiarray")
HISTORY = "mmengine.logging.history_buffer"
# Every name, after its module, that a pickle may ask for. torch.load takes more, such as functions that make tensors
# of any size from a number, or sparse ones.
ALLOWED = {
    *(f"collections {name}" for name in ("OrderedDict", "Counter")),
    *(f"torch._utils {name}" for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3")),
    "torch._utils _rebuild_parameter",
    *(f"torch {name}" for name in ("Size", "device", *DTYPES, *STORAGES)),
    *(f"torch.cuda {name}" for name in STORAGES),
    *(f"torch.storage {name}" for name in ("TypedStorage", "UntypedStorage")),
    *(f"{builtins} {name}" for builtins in ("__builtin__", "builtins") for name in ("set", "getattr")),
    "_codecs encode",  # makes bytes of text
    f"{HISTORY} HistoryBuffer",
    "argparse Namespace",
    *(f"numpy {name}" for name in ("dtype", "ndarray")),
    *(f"{module} {name}" for module in ARRAYS for name in ("scalar", "_reconstruct")),
}


def check_pickle(stream: BinaryIO, path: Path, count: int = 1) -> None:
    """Raises UserError if pickles ask for anything but ``ALLOWED``, or have too many instructions. Nothing is run.

    Args:
        stream: the pickles. Errors of ``pickletools`` for malformed ones pass.
        path: the file, for messages.
        count: the number of pickles, one after another.
    """
    steps = longs = 0
    encodes, texts = False, set()
    for _ in range(count):
        for code, argument, _ in pickletools.genops(stream):
            steps += 1
            if steps > MAX_STEPS:
                raise UserError(f"refused: {path} holds too many parts; allowed: {MAX_STEPS} pickle instructions")
            if code.name == "GLOBAL":
                if argument not in ALLOWED:
                    asked = argument.replace(" ", ".")
                    raise UserError(f"refused: {path} is not only weights, it asks for {asked}, which can run code")
                encodes |= argument == "_codecs encode"
            elif code.name in NEEDLESS:
                raise needless_instructions(path)
            elif code.name in ("BINUNICODE", "SHORT_BINSTRING"):
                if len(argument) <= 8:
                    texts.add(argument.lower())
            elif code.name == "LONG1":
                longs += argument.bit_length() > 63
    if (encodes and texts & SLOW_CODECS) or longs > MAX_LONG:
        raise needless_instructions(path)


def needless_instructions(path: Path) -> UserError:
    return UserError(f"refused: {path} is not only weights, it holds instructions that no weights need")


class Inert:
    """Stands in for a pickled object. Its content is dropped."""

    def __init__(self, *args: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class NumberType(Inert):
    """Stands in for a numpy.dtype, such as ``numpy.dtype("f8")``."""

    def __init__(self, code: Any = "", *args: Any):
        self.code = code
        self.order = "<"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1] if state[1] == ">" else "<"


def number(kind: NumberType, data: bytes) -> bool | int | float:
    """The value of a pickled numpy scalar, without numpy: hostile types crash numpy itself.

    Raises:
        ValueError, struct.error: it is no boolean, integer or float, or has another number of bytes.
    """
    sizes = {"b": "?", "i": "bhiq", "u": "BHIQ", "f": "?efd"}
    letter, size = kind.code[:1], int(kind.code[1:])
    if letter not in sizes or size not in (1, 2, 4, 8) or kind.code in ("f1", "b2", "b4", "b8"):
        raise ValueError(f"a numpy scalar of type {kind.code}")
    return struct.unpack(kind.order + sizes[letter][size.bit_length() - 1], data)[0]


# What torch.load calls in place of the names that are not PyTorch's. Training records of mmengine and arrays are read
# over. The real getattr, by which mmengine's records pickle their methods, could reach any attribute of anything.
STAND_INS = [
    *((Inert, name) for name in ("builtins.getattr", f"{HISTORY}.HistoryBuffer", "argparse.Namespace")),
    (NumberType, "numpy.dtype"),
    (Inert, "numpy.ndarray"),
    *((number, f"{module}.scalar") for module in ARRAYS),
    *((Inert, f"{module}._reconstruct") for module in ARRAYS),
]


def check_content(content: Any, path: Path) -> None:
    """Raises UserError for a content that no walk through it would end, or that is far larger than its file.

    Few bytes can describe much: lists that hold one list ten times each, tensors that show one number a billion times,
    tensors that reach beyond what is stored. Attributes that a pickle set on dicts are removed.
    """
    limit = FACTOR * path.stat().st_size + SLACK
    stored: dict[int, int] = {}
    weights: dict[int, int] = {}  # of each container that was walked: bytes, each time that a part occurs
    open_ones: set[int] = set()
    stack: list[tuple[Any, bool]] = [(content, False)]
    while stack:
        node, is_walked = stack.pop()
        parts = parts_of(node)
        if is_walked:
            open_ones.discard(id(node))
            weights[id(node)] = 1 + sum(weight(part, weights) for part in parts)
            continue
        if id(node) in weights:
            continue
        if id(node) in open_ones:
            raise UserError(f"refused: {path} holds a list or dict that contains itself; allowed: plain nesting")
        open_ones.add(id(node))
        if len(open_ones) > MAX_DEPTH:
            raise UserError(f"refused: {path} is nested deeper than {MAX_DEPTH} levels of dicts and lists")
        if isinstance(node, OrderedDict | Counter):
            without_attributes(node)
            parts = parts_of(node)
        stack.append((node, True))
        for part in parts:
            if isinstance(part, Tensor):
                storage = part.untyped_storage()
                stored[storage.data_ptr()] = storage.nbytes()
            elif isinstance(part, dict | list | tuple | set):
                stack.append((part, False))
    if sum(stored.values()) > path.stat().st_size:
        raise UserError(f"refused: {path} declares larger tensors than it holds; allowed: files of torch.save")
    if weights.get(id(content), 0) > limit:
        raise UserError(
            f"refused: {path} describes more than {FACTOR} times what it holds; allowed: files of torch.save"
        )


def without_attributes(node: OrderedDict | Counter) -> None:
    """Removes what would take the place of methods such as ``items``. PyTorch's versions of modules stay."""
    versions = vars(node).get("_metadata")
    vars(node).clear()
    if isinstance(versions, dict) and all(isinstance(version, dict) for version in versions.values()):
        vars(node)["_metadata"] = versions


def parts_of(node: Any) -> list[Any]:
    if isinstance(node, dict):
        attributes = [vars(node)["_metadata"]] if "_metadata" in getattr(node, "__dict__", ()) else []
        return [*node, *node.values(), *attributes]
    return list(node) if isinstance(node, list | tuple | set) else []


def weight(part: Any, weights: dict[int, int]) -> int:
    """The bytes of a part that is no container, or of a container that was walked."""
    if isinstance(part, Tensor):
        return 1 + math.prod(part.shape) * part.element_size()
    if isinstance(part, str | bytes):
        return 1 + len(part)
    return weights.get(id(part), 1)

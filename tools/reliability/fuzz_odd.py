"""Odd inputs, made from right ones by a random generator: damaged bytes, changed trees of values, odd arguments."""

import copy
import struct
from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple, Protocol

DEPTH = 100_000  # levels of nested lists, more than any stack holds

# What a value of an annotation or a config is replaced by.
ODD: list[Any] = [None, True, False, -1, 0, 1, 7, 2.5, -0.5, 2**31, 2**63, 10**30, -(10**30), 1e308]
ODD += [float("nan"), float("inf"), "", "text", "two\nlines", "\x00", "../../x", "é" * 300, [], [0], ["x", None], {}]
ODD += [[[]], {"a": {"b": -1}}, {"type": "Nowhere"}]


class Wrong(Exception):
    """An input was taken, and gave a result that an independent look at it contradicts."""


class Target(Protocol):
    """Inputs of one kind, and what takes them.

    A target may have its inputs as a list, ``cases``, which is then taken in its order.
    """

    def make(self, rng: Random) -> Any:
        """An input, in plain types."""

    def run(self, given: Any) -> None:
        """Gives the input to the project. Raises UserError for a refusal, ``Wrong``, or whatever the project raises."""


class Deep(NamedTuple):
    """A JSON value of many nested lists, which Python could not write."""

    levels: int = DEPTH


def mutated(rng: Random, data: bytes) -> bytes:
    """Bytes that are cut off, or have one to four places changed."""
    if rng.random() < 0.2:
        return data[: rng.randrange(len(data))]
    for _ in range(rng.choice((1, 1, 2, 4))):
        data = rng.choice((flipped, overwritten, overwritten_number, inserted, removed, repeated))(rng, data)
    return data


def place(rng: Random, data: bytes) -> int:
    """A place in the data; the beginning, where headers are, is as likely as the rest."""
    return rng.randrange(min(len(data), rng.choice((64, 600, len(data), len(data))))) if data else 0


def flipped(rng: Random, data: bytes) -> bytes:
    at = place(rng, data)
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :] if data else data


def overwritten(rng: Random, data: bytes) -> bytes:
    at, count = place(rng, data), rng.choice((1, 2, 16))
    new = rng.choice((b"\x00", b"\xff", bytes([rng.randrange(256)]))) * count
    return data[:at] + new + data[at + count :]


def overwritten_number(rng: Random, data: bytes) -> bytes:
    """Four bytes as a number that stands for a size or a place, in either order of bytes."""
    at, number = place(rng, data), rng.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 100_000, 65_536))
    return data[:at] + struct.pack(rng.choice("<>") + "I", number) + data[at + 4 :]


def inserted(rng: Random, data: bytes) -> bytes:
    at = place(rng, data)
    return data[:at] + bytes(rng.randrange(256) for _ in range(rng.choice((1, 3, 20)))) + data[at:]


def removed(rng: Random, data: bytes) -> bytes:
    at = place(rng, data)
    return data[:at] + data[at + rng.choice((1, 4, 40)) :]


def repeated(rng: Random, data: bytes) -> bytes:
    at, count = place(rng, data), rng.choice((8, 100))
    return data[: at + count] + data[at:]


def paths(tree: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of every value below the root of nested dicts and lists, such as ``("images", 0, "id")``."""
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else ()
    for key, value in entries:
        yield (*path, key)
        yield from paths(value, (*path, key))


def value_at(tree: Any, path: tuple) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def changed_tree(rng: Random, tree: Any, odd: list[Any] = ODD) -> Any:
    """A copy of nested dicts and lists in which one value is replaced, removed, doubled or swapped with another."""
    tree = copy.deepcopy(tree)
    *above, key = even_path(rng, tree)
    parent = value_at(tree, tuple(above))
    kind = rng.choice(("replace", "replace", "replace", "remove", "double", "swap", "deep"))
    if kind == "remove":
        del parent[key]
    elif kind == "double" and isinstance(parent, list):
        parent.insert(key, parent[key])
    elif kind == "swap":
        parent[key] = copy.deepcopy(value_at(tree, even_path(rng, tree)))
    elif kind == "deep" and rng.random() < 0.2:
        parent[key] = Deep(rng.choice((DEPTH, 300)))
    else:
        parent[key] = rng.choice(odd)
    return tree


def even_path(rng: Random, tree: Any) -> tuple:
    """A random path, by steps downwards, so that long lists do not have most of the choices."""
    path = ()
    while isinstance(tree, dict | list) and tree and (not path or rng.random() < 0.85):
        key = rng.choice(list(tree)) if isinstance(tree, dict) else rng.randrange(len(tree))
        path, tree = (*path, key), tree[key]
    return path

"""The file of features: two splits of vectors and labels, and what they were made from. Read and written in parts.

The file is a .safetensors file. Its tensors are ``train_features`` (N, width) in float32 or float16, ``train_labels``
(N,) in int64, and the same for ``val``. Its metadata hold the JSON text of a dict under the key ``features``.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from backbones.errors import UserError, shown
from backbones.files import replaced_file

FORMAT = 1
KEY = "features"  # of the JSON text in the metadata
TYPES = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16), "I64": np.dtype(np.int64)}  # safetensors' names
SPLITS = ("train", "val")
# Two files made from the same things may differ in these: where the things were found, and who made the file.
FOUND = ("weights", "data", "statistics", "versions")


class Split(NamedTuple):
    """Features of one split, in the order of its images. The arrays are parts of a file: rows are read when used.

    Attributes:
        features: (N, width), float32 or float16.
        labels: class indices (N,), int64.
    """

    features: np.ndarray
    labels: np.ndarray


class Features(NamedTuple):
    """The content of a file of features.

    Attributes:
        meta: what the features were made from, see :meth:`classification.frozen.source.Source.describe`.
    """

    train: Split
    val: Split
    meta: dict[str, Any]


@contextlib.contextmanager
def writing(path: Path, meta: dict[str, Any], width: int, saved_in: np.dtype) -> Iterator[Features]:
    """A block that fills a new file. The arrays given to the block lie in the file, and take no memory of their own.

    The file appears at ``path`` when the block ends. After an error, or a stop half-way, an old file is as it was.
    UserError if the disk has no room.

    Args:
        path: the file.
        meta: as for :class:`Features`; the number of images is taken from its ``splits``.
        width: length of a vector.
        saved_in: float32 or float16.
    """
    shapes = {}
    for name in SPLITS:
        images = meta["splits"][name]["images"]
        shapes[f"{name}_features"] = (np.dtype(saved_in), (images, width))
        shapes[f"{name}_labels"] = (np.dtype(np.int64), (images,))
    header, end = {"__metadata__": {KEY: json.dumps({"format": FORMAT, **meta})}}, 0
    for name, (dtype, shape) in shapes.items():
        begin, end = end, end + dtype.itemsize * int(np.prod(shape))
        code = next(code for code, known in TYPES.items() if known == dtype)
        header[name] = {"dtype": code, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the format asks for tensors that begin at a multiple of 8 bytes
    with replaced_file(path) as beside:
        with open(beside, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.flush()
            reserve(file.fileno(), 8 + len(text) + end, path)
        arrays = mapped(beside, "r+")
        yield Features(*splits_of(arrays), meta)
        for array in arrays.values():
            array.flush()


def reserve(file: int, size: int, path: Path) -> None:
    """Gives an open file its final size. Without room on the disk, writing to a mapped file would kill the process.

    Raises:
        UserError: the disk has no room for it.
    """
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file, 0, size)
        else:
            os.truncate(file, size)
    except OSError as error:
        where = f"{size / 2**20:.1f} MiB of features do not fit into {path.parent}"
        raise UserError(f"{where} ({error.strerror}); name a --cache on another disk, or add --half") from None


def read_features(path: Path) -> Features:
    """The content of a file.

    Raises:
        UserError: the file is absent, cut off, or no file of features.
    """
    try:
        with safe_open(path, framework="np") as file:  # checks the header, and the length of the file
            text = (file.metadata() or {}).get(KEY)
        meta = json.loads(text) if text else {}
        if meta.get("format") != FORMAT:
            raise UserError(f"{path} is no file of features of format {FORMAT}; name another --cache")
        return Features(*splits_of(mapped(path, "r")), meta)
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"not a file of features, or cut off: {path} ({type(error).__name__})") from None


def check_same(path: Path, found: dict[str, Any], asked: dict[str, Any]) -> None:
    """Raises UserError if the features of a file were made from other things than are asked for.

    Args:
        path: the file.
        found: its ``meta``.
        asked: the ``meta`` that a new file would get.
    """
    found, asked = (flat(json.loads(json.dumps(meta))) for meta in (found, asked))
    for key, value in asked.items():
        if key.split(".")[0] not in FOUND and found.get(key) != value:
            raise UserError(
                f"{path} holds features of {key} {short(found.get(key))}, and {short(value)} is asked for; name another"
                " --cache, or write this one anew with --overwrite"
            )


def flat(meta: dict[str, Any], before: str = "") -> dict[str, Any]:
    """A nested dict as one with keys such as ``"splits.train.images"``."""
    parts: dict[str, Any] = {}
    for key, value in meta.items():
        parts |= flat(value, f"{before}{key}.") if isinstance(value, dict) else {before + key: value}
    return parts


def short(value: Any) -> str:
    """A value for a message. A SHA-256 is known by its first 8 digits."""
    return value[:8] if isinstance(value, str) and len(value) == 64 else shown(value)


def mapped(path: Path, mode: str) -> dict[str, np.ndarray]:
    """Every tensor of a .safetensors file as an array that lies in the file."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    return {
        name: np.memmap(path, TYPES[row["dtype"]], mode, 8 + length + row["data_offsets"][0], tuple(row["shape"]))
        for name, row in header.items()
        if name != "__metadata__"
    }


def splits_of(arrays: dict[str, np.ndarray]) -> tuple[Split, Split]:
    train, val = (Split(arrays[f"{name}_features"], arrays[f"{name}_labels"]) for name in SPLITS)
    return train, val

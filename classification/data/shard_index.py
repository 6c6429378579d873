"""The index of tar shards in WebDataset's layout: where each image is, and its class."""

import hashlib
import json
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from backbones.errors import UserError, shorten
from backbones.files import replaced_file
from backbones.images import SUFFIXES
from ziggurat.engine.tar_end import check_end

IMAGES = tuple(suffix[1:] for suffix in SUFFIXES)
LARGEST_LABEL_FILE = 1 << 20  # bytes


class Index(NamedTuple):
    """Where the images of the shards are. All arrays have one value for each image."""

    shard: np.ndarray  # position in the list of shards
    start: np.ndarray  # of the image's bytes in the shard
    size: np.ndarray  # number of bytes
    label: np.ndarray  # class index
    key: np.ndarray  # name in the shard, as bytes


def indexed(shards: Sequence[Path]) -> Index:
    """The index of shards. It is kept in PyTorch's cache folder, until a shard changes its size or time."""
    stats = [(str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns) for path in shards]
    key = hashlib.sha256(json.dumps(stats).encode()).hexdigest()[:16]
    kept = Path(torch.hub.get_dir()) / "ziggurat_shards" / f"{key}.npz"
    try:
        with np.load(kept, allow_pickle=False) as arrays:
            return Index(*(arrays[f"arr_{i}"] for i in range(len(arrays))))
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile):  # absent or broken
        pass
    index = build_index(shards)
    try:
        with replaced_file(kept) as beside, open(beside, "wb") as file:
            np.savez(file, *index)  # as arr_0, arr_1, ...
    except OSError:  # a cache that cannot be written only costs time
        pass
    return index


def build_index(shards: Sequence[Path]) -> Index:
    """Lists the images of all shards; UserError as for ``ShardImages``."""
    rows = [(i, *row) for i, path in enumerate(shards) for row in list_shard(path)]
    if not rows:
        raise UserError(f"no images in {shorten(shards)}; readable: {', '.join(IMAGES)}")
    shard, start, size, label, key = zip(*rows)
    return Index(
        *(np.array(values, dtype=np.int64) for values in (shard, start, size, label)), np.array(key, dtype="S")
    )


def list_shard(path: Path) -> Iterator[tuple[int, int, int, bytes]]:
    """(start, size, class index, key) of every image in a shard."""
    group = import_webdataset().tariterators.group_by_keys
    try:
        with tarfile.open(path, "r:") as tar:
            members = [member for member in tar if member.isreg()]
            check_end(path, members)
            files = [dict(fname=member.name, data=member, __url__=str(path)) for member in members]
            for sample in group(files):
                image = next((sample[suffix] for suffix in IMAGES if suffix in sample), None)
                if image is not None:
                    key = sample["__key__"]
                    label = label_of(tar, sample, f"{path}/{key}")
                    yield image.offset_data, image.size, label, key.encode(errors="surrogateescape")
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"no such shard: {path}") from None
    except (OSError, EOFError, tarfile.TarError, ValueError) as error:
        reason = str(error.args[0] if error.args else error)
        raise UserError(f"shard cannot be read to its end: {path} ({reason})") from None


def label_of(tar: tarfile.TarFile, sample: dict[str, Any], name: str) -> int:
    """The class index of a sample; UserError if it has none."""
    member = sample.get("cls") or sample.get("json")
    if member is None or member.size > LARGEST_LABEL_FILE:
        raise UserError(f"{name} has no label; allowed: a file .cls with the class index, or .json with label")
    text = tar.extractfile(member).read()
    try:
        if "cls" in sample:
            return int(text)
        content = json.loads(text)
        found = content.get("label", content.get("cls"))
        if isinstance(found, bool) or int(found) != found:
            raise ValueError
        return found
    except (ValueError, TypeError, AttributeError):
        kind = "cls" if "cls" in sample else "json"
        shown = text[:40].decode(errors="replace").strip()
        raise UserError(f"{name}.{kind}: {shown!r}; allowed: a class index, 0 for the first class") from None


def import_webdataset() -> Any:
    try:
        import webdataset
    except ImportError:
        raise UserError("tar shards need webdataset: pip install webdataset") from None
    return webdataset

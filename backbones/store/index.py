"""The index of a store: where the features of each image are."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from backbones.errors import UserError
from backbones.store.layout import INDEX, PART, SHARD, SHARDS, import_pyarrow, parts_of

COLUMNS = ["image", "height", "width", "shard", "row", "reason"]


class Index(NamedTuple):
    """N images with features, in the order in which they were written.

    Attributes:
        images: their names, an array of pyarrow.
        heights, widths: (N,), pixels that the network saw.
        rows: (N,), of the tensors in the shards.
        shard_of: (N,), positions in ``digests``.
        digests: name of a shard -> its SHA-256.
        unreadable: name -> reason, of the images without features.
    """

    images: Any
    heights: np.ndarray
    widths: np.ndarray
    rows: np.ndarray
    shard_of: np.ndarray
    digests: dict[str, str]
    unreadable: dict[str, str]


def read_index(store: Path) -> Index:
    """The index of a store's folder.

    Raises:
        UserError: an index is damaged, or a shard is not there in its full length.
    """
    pa = import_pyarrow()
    tables, digests, unreadable = [], {}, {}
    for part in parts_of(store):
        try:
            table = pa.parquet.read_table(part, columns=COLUMNS)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise damaged(part.stem, store, f"index {part}: {' '.join(str(error).split())[:200]}") from None
        failed = table.filter(pa.compute.is_valid(table["reason"]))
        unreadable |= zip(failed["image"].to_pylist(), failed["reason"].to_pylist())
        whole = table.filter(pa.compute.is_null(table["reason"]))
        if len(whole):
            digests[part.stem] = digest_of(part.stem, store, table.schema.metadata or {})
            tables.append(whole.select(["image", "height", "width", "row"]))
    counts = [len(table) for table in tables]
    joined = pa.concat_tables(tables).combine_chunks() if tables else None
    images = joined["image"] if tables else []
    if unreadable and tables:  # some may have been read later
        failed = pa.array(list(unreadable))
        read = {*failed.filter(pa.compute.is_in(failed, pa.concat_arrays(images.chunks))).to_pylist()}
        unreadable = {name: reason for name, reason in unreadable.items() if name not in read}
    heights, widths, rows = (
        joined[word].to_numpy() if tables else np.zeros(0, np.int32) for word in ("height", "width", "row")
    )
    shard_of = np.repeat(np.arange(len(digests), dtype=np.int32), counts)
    return Index(images, heights, widths, rows, shard_of, digests, unreadable)


def digest_of(name: str, store: Path, facts: dict[bytes, bytes]) -> str:
    """The SHA-256 of a shard by what its index says. UserError if the shard is not there in its full length."""
    path = shard_file(store, name)
    try:
        wanted, digest = int(facts[b"bytes"]), facts[b"sha256"].decode()
        length = path.stat().st_size
    except (KeyError, ValueError):
        raise damaged(name, store, f"index {store / INDEX / name}{PART} says no length") from None
    except OSError as error:
        raise damaged(name, store, f"shard {path}: {error.strerror}") from None
    if length != wanted:
        raise damaged(name, store, f"shard {path} has {length} bytes of {wanted}")
    return digest


def shard_file(store: Path, name: str) -> Path:
    return store / SHARDS / f"{name}{SHARD}"


def damaged(name: str, store: Path, what: str) -> UserError:
    """The error for a damaged shard or index. Without its index a shard counts for nothing, and is made again."""
    part = store / INDEX / f"{name}{PART}"
    return UserError(f"damaged store: {what}; remove {part} and give the command that made it again")

"""What is in the folder of a store that is about to be written: its names and numbers, and what killed runs left."""

from collections.abc import Sequence
from pathlib import Path

from backbones.errors import UserError
from backbones.files import flush_to_disk
from backbones.store.layout import INDEX, META, NAME, PART, SHARD, SHARDS, import_pyarrow, parts_of, read_meta


def rank_of(part: Path) -> int:
    return int(NAME.fullmatch(part.stem)[1])


def next_number(parts: Sequence[Path], rank: int) -> int:
    """The number of the next shard of a rank."""
    return max((int(NAME.fullmatch(part.stem)[2]) for part in parts if rank_of(part) == rank), default=-1) + 1


def read_names(parts: Sequence[Path]) -> tuple[set[str], set[str]]:
    """The names of images with features, and of unreadable ones, in index files. UserError if one is damaged."""
    pa = import_pyarrow()
    done: set[str] = set()
    failed: set[str] = set()
    for part in parts:
        try:
            table = pa.parquet.read_table(part, columns=["image", "reason"])
            is_done = pa.compute.is_null(table["reason"])
            done.update(table["image"].filter(is_done).to_pylist())
            failed.update(table["image"].filter(pa.compute.invert(is_done)).to_pylist())
        except (OSError, KeyError, pa.ArrowException) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"index {part} is damaged ({reason}); remove it, and give the command again") from None
    return done, failed


def remove_unfinished(store: Path) -> None:
    """Removes what killed processes left: shards without an index, and files in the making."""
    whole = {part.stem for part in parts_of(store)}
    for path in (store / SHARDS).glob(f"shard_*{SHARD}"):
        if NAME.fullmatch(path.stem) and path.stem not in whole:
            path.unlink(missing_ok=True)
    for pattern in (f"{SHARDS}/.shard_*.tmp", f"{INDEX}/.shard_*.tmp", f".{META}.*.tmp"):
        for path in store.glob(pattern):
            path.unlink(missing_ok=True)


def clear(store: Path) -> None:
    """Removes all features, the index first: a store is never without a shard that its index names.

    Raises:
        UserError: ``meta.json`` is no store's.
    """
    if (store / META).exists():
        read_meta(store)
    for folder, suffix in ((INDEX, PART), (SHARDS, SHARD)):
        for path in (store / folder).glob(f"shard_*{suffix}"):
            if NAME.fullmatch(path.stem):
                path.unlink()
        flush_to_disk(store / folder)
    (store / META).unlink(missing_ok=True)

"""Writing a store. A process that is killed at any moment leaves whole shards, and what it was about to write."""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from backbones.checks import check_int
from backbones.errors import UserError, unknown
from backbones.files import flush_to_disk, replaced_file, sha256_of
from backbones.store.folder import clear, next_number, rank_of, read_names, remove_unfinished
from backbones.store.layout import (
    INDEX,
    OVERWRITE,
    PART,
    SHARD,
    SHARDS,
    import_pyarrow,
    key_of,
    parts_of,
    settle,
    shard_name,
    to_text,
)
from backbones.store.lock import locked
from backbones.weights.files import save_tensors

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
SHARD_ROWS, SHARD_BYTES = 4096, 256 << 20


class Row(NamedTuple):
    """An image of the shard in the making. ``reason`` says why it has no features, "" if it has."""

    image: str
    size: tuple[int, int] | None
    features: tuple[Tensor, ...]
    reason: str


class StoreWriter:
    """Adds images to a store. Several processes add to one store, each under its own rank.

    Features that are there stay. ``done`` names their images, which need not be computed again.

    Args:
        store: the folder, which is made if it is missing.
        settings: all that the features follow from, in JSON's types. The writer reads two of them: ``stages``, a dict
            with a key such as ``"stage3"`` for each stage, finest first, and ``dtype``, a key of ``DTYPES``.
        dense: whether features are maps, whose shapes follow from the sizes of images.
        rank: the number of this process.
        run: a text that the processes of one run have in common. None stands for a run of one process.
        about: what ``meta.json`` tells beside the settings.
        shard_rows, shard_bytes: a shard is written as soon as it has so many images, or so many bytes.
        overwrite: remove the features that are there. The first process of the run does so.

    Attributes:
        done: names of the images whose features are in the store, or in its next shard.
        unreadable: names of those that could not be read. They may be tried again.

    Raises:
        UserError: the features there have other settings, another run writes to the store, or pyarrow is missing.
        OSError: the disk is full, or fails. What was written before stays.
    """

    def __init__(
        self,
        store: str | Path,
        settings: Mapping[str, Any],
        dense: bool = False,
        rank: int = 0,
        run: str | None = None,
        about: Mapping[str, Any] | None = None,
        shard_rows: int = SHARD_ROWS,
        shard_bytes: int = SHARD_BYTES,
        overwrite: bool = False,
    ):
        if settings["dtype"] not in DTYPES:
            raise unknown("dtype", settings["dtype"], DTYPES)
        import_pyarrow()
        self.store, self.rank, self.dense = Path(store), rank, dense
        self.stages, self.dtype = list(settings["stages"]), DTYPES[settings["dtype"]]
        self.shard_rows = check_int("shard_rows", shard_rows, 1, None)
        self.shard_bytes = check_int("shard_bytes", shard_bytes, 1, None)
        for folder in (self.store / SHARDS, self.store / INDEX):
            folder.mkdir(parents=True, exist_ok=True)
        flush_to_disk(self.store)
        self.lock = locked(self.store, run or secrets.token_hex(8))
        try:
            self.prepare(dict(settings), dict(about or {}), overwrite)
            self.done, self.unreadable = read_names(parts_of(self.store))
        except BaseException:
            self.lock.release()
            raise
        self.rows: list[Row] = []
        self.bytes = 0
        self.number = next_number(parts_of(self.store), rank)

    def prepare(self, settings: dict[str, Any], about: dict[str, Any], overwrite: bool) -> None:
        if overwrite and self.lock.is_new:
            if not self.lock.is_alone:
                raise UserError(f"{self.store} is on a disk without locks; remove the folder instead of {OVERWRITE}")
            clear(self.store)
        settle(self.store, settings, about, self.lock.is_alone)
        if self.lock.is_alone:
            remove_unfinished(self.store)
            self.lock.share()

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind in (None, KeyboardInterrupt):
                self.commit()
        finally:
            self.lock.release()

    def turn_to(self, rank: int) -> None:
        """Goes on under another rank, whose shards may have come since the writer was made.

        So one process does the work of several, one after the other. All that was added is written already.
        """
        assert not self.rows
        parts = [part for part in parts_of(self.store) if rank_of(part) == rank]
        done, unreadable = read_names(parts)
        self.done |= done
        self.unreadable |= unreadable
        self.rank, self.number = rank, next_number(parts, rank)

    def add(self, image: str, size: tuple[int, int], features: Mapping[str, Tensor]) -> None:
        """Adds an image that the store does not have yet. A shard that is full with it is written.

        Args:
            image: its name.
            size: height and width in pixels, as the network saw it.
            features: stage -> tensor (C, ...), of the store's stages.
        """
        image = to_text(image)
        if image in self.done:
            return
        self.done.add(image)
        tensors = tuple(features[name].detach().to("cpu", self.dtype) for name in self.stages)
        self.rows.append(Row(image, tuple(size), tensors, ""))
        self.bytes += sum(tensor.nbytes for tensor in tensors)
        self.commit_if_full()

    def add_unreadable(self, image: str, reason: str) -> None:
        """Records an image that has no features, once."""
        image = to_text(image)
        if image in self.unreadable:
            return
        self.unreadable.add(image)
        self.rows.append(Row(image, None, (), reason))
        self.commit_if_full()

    def commit_if_full(self) -> None:
        if len(self.rows) >= self.shard_rows or self.bytes >= self.shard_bytes:
            self.commit()

    def commit(self) -> None:
        """Writes what was added since the last shard: the shard first, then its index, each whole or not at all."""
        if not self.rows:
            return
        name = shard_name(self.rank, self.number)
        tensors, places = self.tensors()
        facts = {}
        if tensors:
            shard = self.store / SHARDS / f"{name}{SHARD}"
            with replaced_file(shard, durable=True) as beside:
                save_tensors(tensors, beside)
                facts = {"bytes": str(beside.stat().st_size), "sha256": sha256_of(beside)}
        self.write_index(self.store / INDEX / f"{name}{PART}", places, name if tensors else None, facts)
        self.rows, self.bytes = [], 0
        self.number += 1

    def tensors(self) -> tuple[dict[str, Tensor], list[int | None]]:
        """The shard's tensors, and the row of each image in them; None without features."""
        groups: dict[tuple[int, int] | None, list[Row]] = {}
        places: list[int | None] = []
        for row in self.rows:
            members = groups.setdefault(row.size if self.dense else None, []) if row.features else None
            places.append(None if members is None else len(members))
            if members is not None:
                members.append(row)
        found = {
            key_of(name, size): torch.stack([row.features[i] for row in members])
            for size, members in groups.items()
            for i, name in enumerate(self.stages)
        }
        return found, places

    def write_index(self, path: Path, places: list[int | None], shard: str | None, facts: dict[str, str]) -> None:
        """Writes the index of a shard. Its metadata tell the shard's length and SHA-256."""
        pa = import_pyarrow()
        has = [bool(row.features) for row in self.rows]
        columns = {
            "image": pa.array([row.image for row in self.rows], pa.string()),
            "height": pa.array([row.size and row.size[0] for row in self.rows], pa.int32()),
            "width": pa.array([row.size and row.size[1] for row in self.rows], pa.int32()),
            "shard": pa.array([shard if one else None for one in has], pa.string()),
            "row": pa.array(places, pa.int32()),
            "reason": pa.array([row.reason or None for row in self.rows], pa.string()),
        }
        for i, name in enumerate(self.stages if self.dense else ()):
            for axis, word in ((1, "height"), (2, "width")):
                values = [row.features[i].shape[axis] if row.features else None for row in self.rows]
                columns[f"{name}_{word}"] = pa.array(values, pa.int32())
        table = pa.table(columns).replace_schema_metadata(facts)
        with replaced_file(path, durable=True) as beside:
            pa.parquet.write_table(table, beside)

"""A store as NumPy files, or as a group of zarr."""

import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from backbones.errors import UserError
from backbones.files import replaced_file, write_json
from backbones.store.layout import import_extra, key_of

if TYPE_CHECKING:
    from backbones.store.reader import Block, FeatureStore


CHUNK_BYTES = 8 << 20  # of an array of zarr: a reader takes whole chunks


def write_npy(store: "FeatureStore", out: Path) -> list[Path]:
    """Files and errors as in :meth:`FeatureStore.to_npy`."""
    sizes = blocks_of_sizes(store)
    names = store.names()
    files = {size: [out / f"{key_of(word, size)}.npy" for word in store.stages] for size in sizes}
    lists = {size: out / f"{key_of('images', size)}.json" for size in sizes}
    for path in [*lists.values(), *(file for some in files.values() for file in some)]:
        if os.path.lexists(path):
            raise UserError(f"{path} is there already; allowed: another folder")
    for size, blocks in sizes.items():
        for stage, file in zip(store.stages, files[size]):
            write_stage(file, stage, blocks)
        write_json(lists[size], [names[i] for block in blocks for i in block.images])
    return [path for size in sizes for path in (*files[size], lists[size])]


def blocks_of_sizes(store: "FeatureStore") -> "dict[tuple[int, int] | None, list[Block]]":
    """The blocks of images of each size. Pooled features have the one size None."""
    sizes: dict[tuple[int, int] | None, list[Block]] = {}
    for block in store.blocks():
        sizes.setdefault(block.size, []).append(block)
    return sizes


def write_stage(file: Path, stage: str, blocks: "list[Block]") -> None:
    shape, dtype = array_of(stage, blocks)
    with replaced_file(file) as beside:
        array = np.lib.format.open_memmap(beside, "w+", dtype, shape)
        fill(array, stage, blocks)
        array.flush()


def array_of(stage: str, blocks: "list[Block]") -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of the array of a stage. NumPy has no bfloat16, which becomes float32."""
    first = blocks[0].features[stage]
    dtype = np.dtype(np.float16 if first.dtype == torch.float16 else np.float32)
    return (sum(len(block.images) for block in blocks), *first.shape[1:]), dtype


def fill(array: Any, stage: str, blocks: "list[Block]") -> None:
    start = 0
    for block in blocks:
        array[start : start + len(block.images)] = block.features[stage].to(torch.float32).numpy()
        start += len(block.images)


def write_zarr(store: "FeatureStore", out: Path) -> Path:
    """Folder and errors as in :meth:`FeatureStore.to_zarr`."""
    zarr = import_extra("zarr", "an export to zarr", "ziggurat-vision[zarr]")
    if not hasattr(zarr, "create_array"):
        raise UserError(f"zarr is {zarr.__version__}; allowed: 3.1 and later")
    if os.path.lexists(out):
        raise UserError(f"{out} is there already; allowed: another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_name(f".{out.name}.{secrets.token_hex(4)}.tmp")
    try:
        group, names = zarr.open_group(beside, mode="w-", zarr_format=3), store.names()
        for size, blocks in blocks_of_sizes(store).items():
            for stage in store.stages:
                shape, dtype = array_of(stage, blocks)
                rows = max(1, min(shape[0], CHUNK_BYTES // max(1, dtype.itemsize * int(np.prod(shape[1:])))))
                array = group.create_array(key_of(stage, size), shape=shape, dtype=dtype, chunks=(rows, *shape[1:]))
                fill(array, stage, blocks)
            images = np.array([names[i] for block in blocks for i in block.images], object)
            group.create_array(key_of("images", size), shape=images.shape, dtype=str)[:] = images
        group.attrs.update(store.meta)
        os.rename(beside, out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return out

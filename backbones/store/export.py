"""A store as NumPy files."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from backbones.errors import UserError
from backbones.files import replaced_file, write_json
from backbones.store.layout import key_of

if TYPE_CHECKING:
    from backbones.store.reader import Block, FeatureStore


def write_npy(store: "FeatureStore", out: Path) -> list[Path]:
    """Files and errors as in :meth:`FeatureStore.to_npy`."""
    sizes: dict[tuple[int, int] | None, list[Block]] = {}
    for block in store.blocks():
        sizes.setdefault(block.size, []).append(block)
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


def write_stage(file: Path, stage: str, blocks: "list[Block]") -> None:
    count = sum(len(block.images) for block in blocks)
    first = blocks[0].features[stage]
    dtype = np.dtype(np.float16 if first.dtype == torch.float16 else np.float32)
    with replaced_file(file) as beside:
        array = np.lib.format.open_memmap(beside, "w+", dtype, (count, *first.shape[1:]))
        start = 0
        for block in blocks:
            array[start : start + len(block.images)] = block.features[stage].to(torch.float32).numpy()
            start += len(block.images)
        array.flush()

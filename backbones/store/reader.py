"""Reading a store. Features stay on the disk until they are used."""

import os
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.utils.data import Dataset

from backbones.checks import as_int
from backbones.errors import UserError, shown
from backbones.files import sha256_of
from backbones.store.export import write_npy, write_zarr
from backbones.store.index import damaged, read_index, shard_file
from backbones.store.layout import key_of, read_meta
from backbones.store.search import numbers_of, search

OPEN_SHARDS = 64  # whose tensors are kept, each with an open file


class Block(NamedTuple):
    """Images whose features are side by side in a shard.

    Attributes:
        images: their positions in the store.
        size: height and width of these images, if features are maps; None for pooled features.
        features: stage -> tensor (images, C, ...).
    """

    images: np.ndarray
    size: tuple[int, int] | None
    features: dict[str, Tensor]


class FeatureStore(Dataset):
    """The features of a store, as a data set of PyTorch. Images have the order in which they were written.

    An item is a dict: ``name``; ``size``, the height and width in pixels that the network saw; and for each stage a
    tensor such as ``stage3``: (C,) or (C, K, K) if features are pooled, else the map (C, H, W). The tensors lie in the
    file: copy one before you change it.

    Args:
        path: the folder. What is added to it later is not seen.

    Attributes:
        meta: what ``meta.json`` says.
        stages: names of the stages, finest first.
        unreadable: name -> reason, of the images without features.

    Raises:
        UserError: the folder is no store, a file of it is missing or has another length than it should, or pyarrow is
            missing.

    Example::

        store = FeatureStore("work_dirs/features/van_b2.in1k")
        store[0]["stage3"]  # a tensor (512,)
        store[store.find("photos/cat.png")]
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.meta = read_meta(self.path)
        self.stages = list(self.meta["settings"]["stages"])
        self.index = read_index(self.path)
        self.images, self.unreadable = self.index.images, self.index.unreadable
        self.shard_names = list(self.index.digests)
        self.positions: dict[str, int] | None = None
        self.shards: OrderedDict[str, dict[str, Tensor]] = OrderedDict()

    def __repr__(self) -> str:
        settings = self.meta["settings"]
        what = f"{settings.get('arch')}, {', '.join(self.stages)}, {settings.get('pool')}, {settings.get('dtype')}"
        return f"FeatureStore({len(self)} images, {what})"

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The image at a position. IndexError if there is none. Negatives count from the end."""
        position, count = as_int(index), len(self)
        if position is None or not -count <= position < count:
            raise IndexError(f"index is {shown(index)}; allowed: integers from {-count} to {count - 1}")
        position %= count
        size = self.size_of(position)
        tensors = self.tensors_of(self.shard_names[self.index.shard_of[position]])
        row = int(self.index.rows[position])
        return {
            "name": self.images[position].as_py(),
            "size": size,
            **{stage: tensors[self.key(stage, size)][row] for stage in self.stages},
        }

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"shards": OrderedDict()}  # open files cannot be sent to another process

    def find(self, name: str) -> int:
        """The position of an image. UserError if the store has no features of it, with the reason where it is known."""
        if self.positions is None:
            self.positions = {image: i for i, image in enumerate(self.names())}
        if name in self.positions:
            return self.positions[name]
        if name in self.unreadable:
            raise UserError(f"{name} has no features: {self.unreadable[name]}")
        raise UserError(f"{name} is none of the {len(self)} images of the store {self.path}")

    def names(self) -> list[str]:
        """The names of all images, in order."""
        return self.images.to_pylist() if len(self) else []

    def blocks(self) -> Iterator[Block]:
        """All features in large pieces, shard by shard, for work on whole matrices."""
        for number, name in enumerate(self.shard_names):
            first, last = np.searchsorted(self.index.shard_of, [number, number + 1])
            images = np.arange(first, last)
            groups: dict[tuple[int, int] | None, list[int]] = {None: list(images)}
            if not self.is_pooled:
                groups = {}
                for image in images:
                    groups.setdefault(self.size_of(image), []).append(image)
            tensors = self.tensors_of(name)
            for size, members in groups.items():
                # Rows of a tensor have the order of the index.
                keys = {stage: key_of(stage, size) for stage in self.stages}
                if not {*keys.values()} <= tensors.keys():
                    raise UserError(f"{self.path / name} does not hold what meta.json and the index say; it is damaged")
                yield Block(np.array(members), size, {stage: tensors[key] for stage, key in keys.items()})

    def search(
        self,
        vectors: Any,
        top: int = 10,
        stage: str | None = None,
        metric: str = "cosine",
        places: bool = False,
        rows: int | None = None,
    ) -> list:
        """The images that are nearest to a vector: a list of ``backbones.store.search.Neighbour``, the nearest first.

        Args:
            vectors: (C,), or (Q, C) for a list of such lists.
            top, stage, metric, places, rows: as for :func:`backbones.store.search.search`.

        Raises:
            UserError: as there.

        Example::

            store.search(store[0]["stage3"], top=5)[0].image  # the name of the image itself
        """
        vectors = numbers_of(vectors)
        found = search(self, np.atleast_2d(vectors), stage, top, metric, places, rows)
        return found[0] if vectors.ndim == 1 else found

    def to_npy(self, out: str | Path) -> list[Path]:
        """Writes ``stage3.npy`` for each stage, and ``images.json`` with the names. bfloat16 becomes float32.

        Maps become ``stage3.224x320.npy`` and ``images.224x320.json`` for each size of images.

        Args:
            out: a folder, which is made if it is missing.

        Returns:
            The files.

        Raises:
            UserError: a file is there already.
        """
        return write_npy(self, Path(out))

    def to_zarr(self, out: str | Path) -> Path:
        """Writes a group of zarr, format 3, with the arrays of :meth:`to_npy`. The names are the array ``images``.

        The attributes of the group are what ``meta.json`` says. The folder appears when the group is whole.

        Args:
            out: a folder that is not there yet.

        Returns:
            The folder.

        Raises:
            UserError: the folder is there already, or zarr is missing.
        """
        return write_zarr(self, Path(out))

    def verify(self) -> None:
        """Reads all shards, and compares them with their SHA-256. UserError names one that is damaged."""
        for name, digest in self.index.digests.items():
            if sha256_of(shard_file(self.path, name)) != digest:
                raise damaged(name, self.path, f"shard {shard_file(self.path, name)} has other bytes than were written")

    @property
    def is_pooled(self) -> bool:
        return self.meta["settings"].get("pool") is not None

    def size_of(self, position: int) -> tuple[int, int]:
        return int(self.index.heights[position]), int(self.index.widths[position])

    def key(self, stage: str, size: tuple[int, int]) -> str:
        return key_of(stage, None if self.is_pooled else size)

    def tensors_of(self, name: str) -> dict[str, Tensor]:
        """The tensors of a shard, which lie in its file."""
        if name in self.shards:
            self.shards.move_to_end(name)
            return self.shards[name]
        path = shard_file(self.path, name)
        try:
            with safe_open(os.fspath(path), framework="pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  no mapping
        except (OSError, SafetensorError) as error:
            raise damaged(name, self.path, f"shard {path}: {' '.join(str(error).split())[:200]}") from None
        self.shards[name] = tensors
        if len(self.shards) > OPEN_SHARDS:
            self.shards.popitem(last=False)
        return tensors

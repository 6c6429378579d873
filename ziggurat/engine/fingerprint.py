"""The fingerprint of a run's training data, by which a resumed run knows them again."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.dataset import BaseDataset
from mmengine.dist import is_main_process

CHUNK = 1 << 20  # bytes


class Fingerprint(NamedTuple):
    """The training data of a run, and how a step takes images from them.

    Attributes:
        images: in the data set.
        batch: images that all processes together take at once.
        processes: their number.
        sha256: of the classes, and of the annotation file or the names and labels of the images. The images' pixels do
            not count, and a data set in another folder is the same. Only the first process computes the sum.
    """

    images: int
    batch: int
    processes: int
    sha256: str


def fingerprint_of(loader: Any, processes: int) -> Fingerprint:
    """The fingerprint of a training loader's data. A stream of images without a length has 0 images."""
    dataset, batch_size = loader.dataset, getattr(loader.batch_sampler, "batch_size", None) or loader.batch_size or 1
    images = len(dataset) if hasattr(dataset, "__len__") else 0
    digest = hashlib.sha256()
    for part in content_of(dataset) if is_main_process() else ():
        digest.update(part)
    return Fingerprint(images, batch_size * processes, processes, digest.hexdigest() if is_main_process() else "")


def content_of(dataset: Any) -> Iterator[bytes]:
    """What makes a data set the one it is, piece by piece. Wrappers around data sets are looked through."""
    inner = getattr(dataset, "datasets", None) or [getattr(dataset, "dataset", None)]
    if inner[0] is not None:
        for one in inner:
            yield from content_of(one)
        return
    yield repr((getattr(dataset, "metainfo", None) or {}).get("classes")).encode()
    ann_file = getattr(dataset, "ann_file", None)
    if hasattr(dataset, "listing"):
        yield from dataset.listing()
    elif isinstance(ann_file, str) and Path(ann_file).is_file():
        with open(ann_file, "rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
    elif isinstance(dataset, BaseDataset):
        root = str(dataset.data_root or "")
        for index in range(len(dataset)):
            info = dataset.get_data_info(index)
            yield repr([str(info.get(key)).removeprefix(root) for key in ("img_path", "seg_map_path")]).encode()

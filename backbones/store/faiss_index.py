"""Neighbours by an index of FAISS, which is kept beside the store, in its folder ``faiss``.

Few images have a flat index. Many images are sorted into lists, of which a search looks at some, so a neighbour may be
missed. Scores are computed again from the store's features, exactly.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backbones.files import replaced_file, write_json
from backbones.store.layout import import_extra
from backbones.store.search import (
    Best,
    Neighbour,
    cells_of,
    channels_of,
    check_finite,
    checked,
    exact,
    prepared,
)

if TYPE_CHECKING:
    from backbones.store.reader import FeatureStore

FOLDER = "faiss"
FLAT = 50_000  # images up to which an index is flat
TRAINED_ON = 40  # images for each list
LOOKED_AT = 1 / 16  # of the lists
MORE = 4  # times as many images as asked for are compared exactly


def search_by_faiss(
    store: "FeatureStore",
    queries: Any,
    stage: str | None = None,
    top: int = 10,
    metric: str = "cosine",
    flat: int = FLAT,
) -> list[list[Neighbour]]:
    """As :func:`backbones.store.search.search`, with an index of whole images. One that is missing or old is made.

    Args:
        store, queries, stage, top, metric: as there.
        flat: number of images up to which the index is flat.

    Raises:
        UserError: as there; also if FAISS is missing.
    """
    stage, vectors = checked(store, queries, stage, top, metric, False)
    faiss = import_extra("faiss", "--index faiss", "ziggurat-vision[search]")
    if not len(store):
        return [[] for _ in vectors]
    index = index_of(store, stage, metric, flat, faiss)
    targets = prepared(vectors, metric)
    _, found = index.search(targets.astype(np.float32), min(len(store), MORE * top))
    return [
        rescored(store, stage, metric, target, np.unique(images[images >= 0]), top)
        for target, images in zip(targets, found, strict=True)
    ]


def rescored(
    store: "FeatureStore", stage: str, metric: str, target: np.ndarray, images: np.ndarray, top: int
) -> list[Neighbour]:
    """The best of some images, with scores from the store's features."""
    best = Best(top)
    values = np.stack([vector_of(store, stage, int(image)) for image in images])[:, None]
    check_finite(values, images)
    best.add(exact(values, target, metric)[:, 0], images, np.zeros(len(images), np.int64), (1, 1))
    return best.neighbours(store, metric, False)


def vector_of(store: "FeatureStore", stage: str, image: int) -> np.ndarray:
    values = store[image][stage].float()
    return values.numpy() if values.ndim == 1 else values.flatten(1).numpy().mean(1, dtype=np.float64).astype("f4")


def index_of(store: "FeatureStore", stage: str, metric: str, flat: int, faiss: Any) -> Any:
    """The index beside the store if it has these images, else a new one, which is kept there where that is allowed."""
    path = store.path / FOLDER / f"{stage}.{metric}.index"
    facts = {"of": digest_of(store), "flat": flat}
    about = path.with_suffix(".json")
    if is_current(about, facts):
        try:
            return faiss.read_index(str(path))
        except RuntimeError:  # damaged, or gone
            pass
    index = made(store, stage, metric, flat, faiss)
    try:
        about.unlink(missing_ok=True)  # until the new index is there, none counts
        with replaced_file(path) as beside:
            faiss.write_index(index, str(beside))
        write_json(about, facts)
    except (OSError, RuntimeError):  # a folder that cannot be written: the index lives as long as the search
        pass
    return index


def digest_of(store: "FeatureStore") -> str:
    """A text that differs for stores of other features, or of more."""
    return hashlib.sha256(json.dumps([store.meta["settings"], store.index.digests]).encode()).hexdigest()


def is_current(about: Path, facts: dict[str, Any]) -> bool:
    try:
        return json.loads(about.read_text(encoding="utf-8")) == facts
    except (OSError, ValueError):
        return False


def made(store: "FeatureStore", stage: str, metric: str, flat: int, faiss: Any) -> Any:
    """An index of all images; the numbers in it are positions in the store."""
    channels, count = channels_of(store, stage), len(store)
    kind = faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2
    if count <= flat:
        index = faiss.IndexFlat(channels, kind)
    else:
        lists = max(1, round(4 * math.sqrt(count)))
        index = faiss.index_factory(channels, f"IVF{lists},Flat", kind)
        index.nprobe = max(1, math.ceil(lists * LOOKED_AT))
        index.train(sample_of(store, stage, metric, min(count, TRAINED_ON * lists)))
    with_numbers = index if count > flat else faiss.IndexIDMap2(index)
    for cells in cells_of(store, stage, False, None):
        with_numbers.add_with_ids(scaled(cells.values[:, 0], metric), cells.images.astype(np.int64))
    return with_numbers


def sample_of(store: "FeatureStore", stage: str, metric: str, count: int) -> np.ndarray:
    """Vectors of images that are spread over the whole store."""
    chosen = np.random.default_rng(0).choice(len(store), count, replace=False)
    is_chosen = np.zeros(len(store), bool)
    is_chosen[chosen] = True
    blocks = cells_of(store, stage, False, None)
    return np.concatenate([scaled(cells.values[is_chosen[cells.images], 0], metric) for cells in blocks])


def scaled(values: np.ndarray, metric: str) -> np.ndarray:
    return np.ascontiguousarray(prepared(values.astype(np.float64), metric), np.float32)

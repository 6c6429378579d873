"""How much the features of images take, before the first one is computed."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from backbones.errors import UserError
from backbones.features import FeatureExtractor
from backbones.pooling import GRID
from backbones.store.writer import DTYPES
from ziggurat.engine.features.loading import Pixels
from ziggurat.engine.features.sources import StoredImage

SAMPLED = 16  # images whose size is read
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


class Budget(NamedTuple):
    """Bytes of the features of all images.

    Attributes:
        images, stages: how many.
        dense: bytes of maps, estimated from the sizes of some images; None where none of these can be read.
        pooled: bytes of pooled features.
    """

    images: int
    stages: int
    dense: float | None
    pooled: int

    def chosen(self, pool: str | None, share: float = 1.0) -> float | None:
        """Bytes of a share of the features in the chosen form; None where this is unknown."""
        found = self.dense if pool is None else self.pooled
        return None if found is None else found * share

    def line(self, dtype: str, pool: str | None, free: int) -> str:
        """The budget in one line, e.g. ``1.2 M images x 3 stages in fp16 = 2.1 TB dense, 5.4 GB pooled``."""
        dense = "unknown" if self.dense is None else f"about {sized(self.dense)}"
        stages = f"{self.stages} stage{'s' * (self.stages > 1)}"
        chosen = "dense" if pool is None else f"pooled ({pool})"
        return (
            f"{counted(self.images)} images x {stages} in {dtype} = {dense} dense, {sized(self.pooled)} pooled; "
            f"chosen: {chosen}, free: {sized(free)}"
        )


def budget_of(extractor: FeatureExtractor, images: Sequence[StoredImage], dtype: str, pool: str | None) -> Budget:
    """The budget of images. Reads some of them.

    Args:
        extractor: the network.
        images: what features are computed from.
        dtype: the type of the features, a key of ``backbones.store.writer.DTYPES``.
        pool: as for ``backbones.pooling.pool_of``; None for maps.
    """
    bytes_each, info = DTYPES[dtype].itemsize, extractor.feature_info
    parts = int(found[1]) ** 2 if (found := GRID.fullmatch(pool or "")) else 1
    pooled = len(images) * bytes_each * parts * sum(one.channels for one in info)
    step = max(1, len(images) // SAMPLED)
    some = Pixels(images[::step][:SAMPLED], extractor.reading, resized=extractor.short_side is not None)
    values = []
    for pixels in map(some.__getitem__, range(len(some))):
        if isinstance(pixels, str):
            continue
        height, width = pixels.shape[1:]
        ratio = extractor.short_side / min(height, width) if extractor.short_side else 1
        values.append(sum(one.channels * height * width * ratio**2 / one.stride**2 for one in info))
    dense = len(images) * bytes_each * sum(values) / len(values) if values else None
    return Budget(len(images), len(info), dense, pooled)


def check_space(out: Path, needed: float | None, free: int) -> None:
    """Raises UserError if features do not fit onto the disk."""
    if needed is not None and needed > free:
        allowed = "another --out, --pool mean, fewer --stages, --save-dtype fp16"
        raise UserError(f"--out {out} has {sized(free)} free, and features take {sized(needed)}; allowed: {allowed}")


def free_space(folder: Path) -> int:
    """Free bytes on the disk of a folder."""
    return shutil.disk_usage(folder).free


def counted(number: int) -> str:
    """A number of things for people: ``940``, ``1.2 M``."""
    for limit, word in ((10**9, "G"), (10**6, "M"), (10**4, "k")):
        if number >= limit:
            return f"{number / (1000 if word == 'k' else limit):.3g} {word}"
    return str(number)


def sized(count: float) -> str:
    """A number of bytes for people, in powers of 1000 as disks are sold: ``5.4 GB``."""
    for unit in UNITS:
        if count < 1000 or unit == UNITS[-1]:
            return f"{count:.3g} {unit}" if count < 1000 else f"{count:.0f} {unit}"
        count /= 1000
    raise AssertionError

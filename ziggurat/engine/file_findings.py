"""What is odd in the image files of a data set: files that nobody names, hidden ones, damaged ones, equal ones."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from backbones.errors import UserError
from backbones.files import sha256_of
from backbones.image_files import is_hidden
from backbones.images import SUFFIXES, read_image
from backbones.reading import READING, Reading
from ziggurat.engine.deep_images import dark_images
from ziggurat.engine.findings import NOTE, UNUSABLE, WARNING, Finding, Place, found_in
from ziggurat.engine.shown import Photo

HEAD = 1 << 16  # bytes at the beginning of a file, which are compared before whole files are
NEAR = 3  # of the 64 bits of two hashes may differ for nearly the same picture
SYSTEM_FILES = ("Thumbs.db", "desktop.ini")


def file_findings(
    images: Mapping[str, Sequence[Path]], decode: bool = False, reading: Reading = READING
) -> Iterator[Finding]:
    """The findings of the files of a data set.

    Args:
        images: the images of each split that exists.
        decode: decode every image, in as many processes as there are cores. This finds damaged files, and nearly equal
            ones.
        reading: the rule by which they are read.
    """
    everything = dict.fromkeys(path for paths in images.values() for path in paths)
    yield from other_files(everything)
    yield from shared(images)
    yield from dark_images(list(everything), reading)
    if decode:
        hashes, errors = looked_at(list(everything), reading)
        for split, paths in images.items():
            bad = [path for path in paths if path in errors]
            text = f"{{count}} of {len(paths):,} images cannot be read ({errors[bad[0]]})" if bad else ""
            cure = "replace them; a training leaves out the share max_unreadable"
            severity = UNUSABLE if len(bad) == len(paths) else WARNING
            yield from found_in("image-unreadable", severity, text, bad, cure, map(Place, bad), split=split)
        yield from near(images, hashes)


def other_files(images: Mapping[Path, Any]) -> Iterator[Finding]:
    """Images in the folders of the data set that no split names, and files of the system."""
    extra, hidden = [], []
    for folder in sorted({path.parent for path in images}):
        try:
            names = sorted(os.listdir(folder))
        except OSError:  # the format says what is wrong
            continue
        hidden += [folder / name for name in names if is_hidden(name) or name in SYSTEM_FILES]
        other = [folder / name for name in names if name.lower().endswith(SUFFIXES) and not is_hidden(name)]
        extra += [path for path in other if path not in images]
    text = "{count} images lie beside those of the data set, and no split names them"
    yield from found_in("image-extra", NOTE, text, extra, "", map(Place, extra))
    yield from found_in("file-hidden", NOTE, "{count} files of the system are left out", hidden)


def shared(images: Mapping[str, Sequence[Path]]) -> Iterator[Finding]:
    """Images that are in the training and in another split, by name or by content."""
    train = images.get("train") or ()
    for split in images:
        if split == "train":
            continue
        other, contents = set(images[split]), defaultdict(list)
        both = [path for path in dict.fromkeys(train) if path in other]
        sizes = {size for path in other if (size := size_of(path)) is not None}
        for path in train:
            if path not in other and size_of(path) in sizes:
                contents[head_of(path)].append(path)
        twins = [(twin_of(path, contents), path) for path in (sorted(other) if contents else ())]
        pairs = [(twin, path) for twin, path in twins if twin is not None]
        text = f"{{count}} of {len(other):,} images are in the training, too, so the figures of {split} mean little"
        cure, names = "take them out of one of the two", [f"{twin} = {path}" for twin, path in pairs]
        views = [[Photo(path, words=f"train and {split}")] for path in both]
        yield from found_in("image-shared", WARNING, text, both, cure, split=split, views=views)
        yield from found_in("image-shared", WARNING, text, names, cure, split=split, views=beside(pairs, split))


def size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def head_of(path: Path) -> bytes | None:
    """The length and the beginning of a file, as a key; None for a file that cannot be read."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD)
            return hashlib.blake2b(head, digest_size=16).digest() + file.seek(0, 2).to_bytes(8, "big")
    except OSError:
        return None


def twin_of(path: Path, contents: Mapping[bytes | None, Sequence[Path]]) -> Path | None:
    """A file of equal content among those that share its length and beginning; None without one."""
    key = head_of(path)
    others = contents.get(key, ()) if key is not None else ()
    return next((other for other in others if sha256_of(other) == sha256_of(path)), None)


def looked_at(paths: Sequence[Path], reading: Reading = READING) -> tuple[dict[Path, int], dict[Path, str]]:
    """The difference hash of each image, and the error of each image that cannot be read."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        answers = pool.map(partial(hash_or_error, reading=reading), paths, chunksize=32)
        found = dict(zip(paths, answers, strict=True))
    hashes = {path: answer for path, answer in found.items() if isinstance(answer, int)}
    return hashes, {path: answer for path, answer in found.items() if isinstance(answer, str)}


def hash_or_error(path: Path, reading: Reading = READING) -> int | str:
    try:
        return difference_hash(np.asarray(read_image(path, reading=reading).convert("L").resize((9, 8))))
    except UserError as error:
        return str(error)


def difference_hash(grey: np.ndarray) -> int:
    """64 bits: whether each pixel of an (8, 9) picture is brighter than its left neighbour (N. Krawetz, 2013)."""
    bits = grey[:, 1:] > grey[:, :-1]
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def near(images: Mapping[str, Sequence[Path]], hashes: Mapping[Path, int]) -> Iterator[Finding]:
    """Nearly the same picture in the training and in another split. Flat pictures, whose hash is 0, are left out."""
    bands: dict[tuple[int, int], list[Path]] = defaultdict(list)
    for path in images.get("train") or ():
        for band in bands_of(hashes.get(path, 0)):
            bands[band].append(path)
    for split in images:
        pairs = []
        for path in images[split] if split != "train" else ():
            mine = hashes.get(path, 0)
            candidates = (other for band in bands_of(mine) for other in bands[band] if other != path)
            twin = next((other for other in candidates if (mine ^ hashes[other]).bit_count() <= NEAR), None)
            if twin is not None and head_of(twin) != head_of(path):  # equal files are another finding
                pairs.append((twin, path))
        text = f"{{count}} of {len(images[split]):,} images look nearly like one of the training"
        names = [f"{twin} ~ {path}" for twin, path in pairs]
        cure = "split by scene, not by image (val_group)"
        places, views = [Place(path) for _, path in pairs], beside(pairs, split)
        yield from found_in("image-near", WARNING, text, names, cure, places, split=split, views=views)


def beside(pairs: Sequence[tuple[Path, Path]], split: str) -> list[Sequence[Photo]]:
    """A picture for each pair of an image of the training and one of another split."""
    return [(Photo(mine, words="train"), Photo(other, words=split)) for mine, other in pairs]


def bands_of(bits: int) -> list[tuple[int, int]]:
    """The four parts of a hash. Two hashes that differ in three bits at most share one of them."""
    return [(i, bits >> 16 * i & 0xFFFF) for i in range(4)] if bits else []

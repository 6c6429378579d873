"""Tar shards in WebDataset's layout: ``key.jpg`` beside ``key.cls`` or ``key.json``.

The shards are listed once. An image is then read at its place in its shard, in any order. So a sampler splits the
images over processes and workers, each image once in an epoch, and a run resumes in the middle of an epoch, as with
files in folders.
"""

import hashlib
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from backbones.errors import UserError, shorten
from backbones.files import replaced_file
from backbones.images import SUFFIXES, read_image
from classification.data.checks import LabelledFormat
from classification.data.images import LabelledImages
from classification.data.samples import Samples, check_label, numbered_classes
from engine.formats import register_format
from engine.splits import under_root

IMAGES = tuple(suffix[1:] for suffix in SUFFIXES)
BLOCK = 512  # bytes; a member of a tar file begins at a multiple, and one or two blocks of zeros end the file
LARGEST_LABEL_FILE = 1 << 20  # bytes


class Index(NamedTuple):
    """Where the images of the shards are. All arrays have one value for each image."""

    shard: np.ndarray  # position in the list of shards
    start: np.ndarray  # of the image's bytes in the shard
    size: np.ndarray  # number of bytes
    label: np.ndarray  # class index
    key: np.ndarray  # name in the shard, as bytes


class ShardImages(LabelledImages):
    """Images in tar shards.

    The class index, from 0, is the text of ``key.cls``, or the entry ``label`` (else ``cls``) of ``key.json``.
    ``classes.txt`` beside the shards may name the classes, one a line. Else they are "0", "1", ...

    Args:
        data_root: the folder of the shards.
        folder: the shards: a pattern such as ``"imagenet-train-{0000..0146}.tar"`` or ``"train-*.tar"``. ``"train"``
            stands for ``train/*.tar``, or else for ``*train*.tar``. For ``"val"`` also ``validation`` is looked for.
        transform, in_memory, max_unreadable: as for :class:`LabelledImages`.
        classes: class names, in the order of the class indices.
        skip_others: leave out labels beyond ``classes``, rather than refuse them.

    Raises:
        UserError: a shard is absent, cut short or no tar file, an image has no label, or a label is outside the
            classes. The message names shard and key.
    """

    def __init__(
        self,
        data_root: str,
        folder: str,
        transform: dict[str, Any] | None = None,
        classes: Sequence[str] | None = None,
        in_memory: bool = False,
        skip_others: bool = False,
        max_unreadable: float | None = None,
    ):
        self.shards = find_shards(Path(data_root), folder)
        index = indexed(self.shards)
        classes = list(classes or shard_classes(self.shards, index))
        outside = np.flatnonzero((index.label < 0) | (index.label >= len(classes)))
        if len(outside) and not skip_others:
            first = outside[0]
            check_label(int(index.label[first]), len(classes), self.name(index, first))
        kept = np.setdiff1d(np.arange(len(index.label)), outside)
        if not len(kept):
            raise UserError(f"{Path(data_root) / folder} has no images of the classes {shorten(classes)}")
        self.index = Index(*(values[kept] for values in index))
        samples = Samples((self.name(self.index, i), int(self.index.label[i])) for i in range(len(kept)))
        super().__init__(classes, samples, transform, in_memory, max_unreadable)

    def name(self, index: Index, position: int) -> str:
        return f"{self.shards[index.shard[position]]}/{index.key[position].decode(errors='surrogateescape')}"

    def read(self, index: int) -> Image.Image:
        name = self.samples[index][0]
        try:
            with open(self.shards[self.index.shard[index]], "rb") as file:
                file.seek(self.index.start[index])
                content = file.read(self.index.size[index])
        except OSError as error:
            raise UserError(f"image cannot be read: {name} ({error})") from None
        return read_image(name, content)


def find_shards(root: Path, folder: str) -> list[Path]:
    """The shards that ``folder`` stands for, sorted as the pattern gives them.

    Raises:
        UserError: there are none, one is absent, or they are addresses or compressed.
    """
    webdataset = import_webdataset()
    if "://" in f"{root}/{folder}" or folder.startswith("pipe:"):
        raise UserError(f"shards {folder} in {root}; allowed: files on this machine")
    if folder.endswith((".gz", ".tgz", ".zst")):
        raise UserError(f"shards {folder}: compressed; allowed: plain .tar, since images are compressed already")
    if "{" in folder:
        shards = [root / name for name in webdataset.shardlists.expand_urls(folder)]
        absent = [str(path) for path in shards if not path.is_file()]
        if absent:
            raise UserError(f"no such shards: {shorten(absent)}")
        return shards
    words = ("val", "validation") if folder == "val" else (folder,)
    patterns = [f"{word}/*.tar" for word in words] + [f"*{word}*.tar" for word in words]
    if folder.endswith(".tar"):
        patterns = [folder]
    shards = next((found for pattern in patterns if (found := sorted(root.glob(pattern)))), None)
    if not shards:
        raise UserError(f"no shards in {root}; allowed: {', '.join(patterns)}, or folder=PATTERN such as train-*.tar")
    return shards


def import_webdataset() -> Any:
    try:
        import webdataset
    except ImportError:
        raise UserError("tar shards need webdataset: pip install webdataset") from None
    return webdataset


def indexed(shards: Sequence[Path]) -> Index:
    """The index of shards. It is kept in PyTorch's cache folder, until a shard changes its size or time."""
    stats = [(str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns) for path in shards]
    key = hashlib.sha256(json.dumps(stats).encode()).hexdigest()[:16]
    kept = Path(torch.hub.get_dir()) / "ziggurat_shards" / f"{key}.npz"
    try:
        with np.load(kept, allow_pickle=False) as arrays:
            return Index(*(arrays[name] for name in Index._fields))
    except (OSError, ValueError, KeyError):
        pass
    index = build_index(shards)
    try:
        with replaced_file(kept) as beside, open(beside, "wb") as file:
            np.savez(file, **index._asdict())
    except OSError:  # a cache that cannot be written only costs time
        pass
    return index


def build_index(shards: Sequence[Path]) -> Index:
    """Lists the images of all shards; UserError as for :class:`ShardImages`."""
    rows = [(i, *row) for i, path in enumerate(shards) for row in list_shard(path)]
    if not rows:
        raise UserError(f"no images in {shorten(shards)}; readable: {', '.join(IMAGES)}")
    shard, start, size, label, key = zip(*rows)
    return Index(
        *(np.array(values, dtype=np.int64) for values in (shard, start, size, label)), np.array(key, dtype="S")
    )


def list_shard(path: Path) -> Iterator[tuple[int, int, int, bytes]]:
    """(start, size, class index, key) of every image in a shard."""
    group = import_webdataset().tariterators.group_by_keys
    try:
        with tarfile.open(path, "r:") as tar:
            members = [member for member in tar if member.isreg()]
            check_end(path, members)
            files = [dict(fname=member.name, data=member, __url__=str(path)) for member in members]
            for sample in group(files):
                image = next((sample[suffix] for suffix in IMAGES if suffix in sample), None)
                if image is not None:
                    key = sample["__key__"]
                    label = label_of(tar, sample, f"{path}/{key}")
                    yield image.offset_data, image.size, label, key.encode(errors="surrogateescape")
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"no such shard: {path}") from None
    except (OSError, EOFError, tarfile.TarError, ValueError) as error:
        reason = str(error.args[0] if error.args else error)
        raise UserError(f"shard cannot be read to its end: {path} ({reason})") from None


def check_end(path: Path, members: Sequence[tarfile.TarInfo]) -> None:
    """Raises UserError for a shard without the block of zeros that ends a tar file. ``tarfile`` accepts one."""
    end = max((member.offset_data + -(-member.size // BLOCK) * BLOCK for member in members), default=0)
    with open(path, "rb") as file:
        file.seek(end)
        rest = file.read(BLOCK)
    if len(rest) < BLOCK or rest.strip(b"\0"):
        raise UserError(f"shard is cut short: {path} ({path.stat().st_size} bytes, {len(members)} whole files)")


def label_of(tar: tarfile.TarFile, sample: dict[str, Any], name: str) -> int:
    """The class index of a sample; UserError if it has none."""
    member = sample.get("cls") or sample.get("json")
    if member is None or member.size > LARGEST_LABEL_FILE:
        raise UserError(f"{name} has no label; allowed: a file .cls with the class index, or .json with label")
    text = tar.extractfile(member).read()
    try:
        if "cls" in sample:
            return int(text)
        content = json.loads(text)
        found = content.get("label", content.get("cls"))
        if isinstance(found, bool) or int(found) != found:
            raise ValueError
        return found
    except (ValueError, TypeError, AttributeError):
        kind = "cls" if "cls" in sample else "json"
        shown = text[:40].decode(errors="replace").strip()
        raise UserError(f"{name}.{kind}: {shown!r}; allowed: a class index, 0 for the first class") from None


def shard_classes(shards: Sequence[Path], index: Index) -> list[str]:
    """The names in ``classes.txt`` beside the shards, or in the folder above, else the numbers of the classes."""
    for folder in (shards[0].parent, shards[0].parent.parent):
        if (folder / "classes.txt").is_file():
            return [line.strip() for line in (folder / "classes.txt").read_text().splitlines() if line.strip()]
    return numbered_classes(index.label.tolist(), str(shards[0].parent))


@register_format(ShardImages)
class ShardFormat(LabelledFormat):
    """Tar shards."""

    def classes(self, dataset: Any) -> tuple[str, ...] | None:
        root = under_root(dataset, "")
        if not root.is_dir():
            return None
        shards = find_shards(root, dataset.folder)
        return tuple(shard_classes(shards, indexed(shards)))

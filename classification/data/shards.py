"""Tar shards in WebDataset's layout: ``key.jpg`` beside ``key.cls`` or ``key.json``.

The shards are listed once. An image is then read at its place in its shard, in any order. So a sampler splits the
images over processes and workers, each image once in an epoch, and a run resumes in the middle of an epoch, as with
files in folders.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from backbones.errors import UserError, shorten
from classification.data.checks import LabelledFormat
from classification.data.images import SplitImages, decoded
from classification.data.samples import Samples, check_label, class_indices, numbered_classes
from classification.data.shard_index import Index, import_webdataset, indexed
from ziggurat.engine.formats import register_format
from ziggurat.engine.splits import under_root


class ShardImages(SplitImages):
    """Images in tar shards.

    The class index, from 0, is the text of ``key.cls``, or the entry ``label`` (else ``cls``) of ``key.json``.
    ``classes.txt`` beside the shards may name the classes, one a line. Else they are "0", "1", ...

    ``folder`` is a pattern such as ``"imagenet-train-{0000..0146}.tar"`` or ``"train-*.tar"``. ``"train"`` stands for
    ``train/*.tar``, or else for ``*train*.tar``. For ``"val"`` also ``validation`` is looked for. Without
    ``classes.txt`` numbers in ``classes`` are class indices. Of other names there, the first is that of index 0, and so
    on. Other arguments and errors:
    :class:`SplitImages`. A message about an image names shard and key.
    """

    def find(self, classes: list[str] | None, skip_others: bool) -> tuple[list[str], Samples]:
        self.shards = find_shards(Path(self.data_root), self.folder)
        index = indexed(self.shards)
        names = written_classes(self.shards)
        if names is None and classes and all(name.isdecimal() for name in classes):
            names = shard_classes(self.shards, index)
        classes = classes or shard_classes(self.shards, index)
        known = len(classes) if names is None else len(names)
        outside = np.flatnonzero((index.label < 0) | (index.label >= known))
        if len(outside) and not (skip_others and names is None):
            check_label(int(index.label[outside[0]]), known, self.name(index, outside[0]))
        labels = index.label
        if names is not None and names != classes:
            labels = class_indices([names[label] for label in labels], classes, str(self.shards[0].parent), skip_others)
        kept = np.flatnonzero((labels >= 0) & (labels < len(classes)))
        self.index = Index(*(values[kept] for values in index))
        return classes, Samples((self.name(self.index, i), int(label)) for i, label in enumerate(labels[kept]))

    def name(self, index: Index, position: int) -> str:
        return f"{self.shards[index.shard[position]]}/{index.key[position].decode(errors='surrogateescape')}"

    def read(self, index: int) -> Image.Image | Tensor:
        name = self.samples[index][0]
        try:
            with open(self.shards[self.index.shard[index]], "rb") as file:
                file.seek(self.index.start[index])
                content = file.read(self.index.size[index])
        except OSError as error:
            raise UserError(f"image cannot be read: {name} ({error})") from None
        return decoded(name, content, self.reading)


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
    if folder.startswith("/"):
        root, folder = Path("/"), folder[1:]
    if "{" in folder:
        try:
            shards = [root / name for name in webdataset.shardlists.expand_urls(folder)]
        except ValueError:
            raise UserError(f"shards {folder}: unbalanced braces; allowed: e.g. train-{{0000..0146}}.tar") from None
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


def shard_classes(shards: Sequence[Path], index: Index) -> list[str]:
    """The written names of the classes, else their numbers as names."""
    return written_classes(shards) or numbered_classes(index.label.tolist(), str(shards[0].parent))


def written_classes(shards: Sequence[Path]) -> list[str] | None:
    """The names in ``classes.txt`` beside the shards, or in the folder above; None without the file."""
    for folder in (shards[0].parent, shards[0].parent.parent):
        if (folder / "classes.txt").is_file():
            return [line.strip() for line in (folder / "classes.txt").read_text().splitlines() if line.strip()]
    return None


@register_format(ShardImages)
class ShardFormat(LabelledFormat):
    """Tar shards."""

    def classes(self, dataset: Any) -> tuple[str, ...] | None:
        root = under_root(dataset, "")
        if not root.is_dir():
            return None
        shards = find_shards(root, dataset.folder)
        return tuple(shard_classes(shards, indexed(shards)))

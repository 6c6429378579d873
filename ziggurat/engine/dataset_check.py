"""Everything that is odd in the data of a config: within each split, between splits, and in the image files."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from backbones.errors import UserError, shorten
from ziggurat.engine.file_findings import file_findings
from ziggurat.engine.findings import NOTE, UNUSABLE, WARNING, Finding, found_in, ordered
from ziggurat.engine.formats import formats_of
from ziggurat.engine.reading import chosen_reading
from ziggurat.engine.shown import Bars, Names
from ziggurat.engine.splits import SPLITS, datasets_of
from ziggurat.engine.task import Task
from ziggurat.engine.training_options import OPTIONS

# Options of a training that help rare classes.
CURES = {
    "oversample_thr": "oversample_thr=0.001 repeats images of rare classes",
    "class_weight": "class_weight=balanced weighs the loss by class",
}
RARE = 100  # times as many labels of the most frequent class as of the rarest


class Checked(NamedTuple):
    """The outcome of a check.

    Attributes:
        findings: the worst first.
        images: the number of image files of each split that exists.
    """

    findings: list[Finding]
    images: dict[str, int]


def check_dataset(cfg: Any, task: Task, decode: bool = False) -> Checked:
    """Finds what is odd in the data that a completed config names. The data are only read.

    Args:
        cfg: the config.
        task: its task.
        decode: decode images and masks, too.
    """
    found: list[Finding] = []
    splits = present(cfg)
    for split in splits:
        try:
            found += [one._replace(split=one.split or split) for one in task.findings(cfg, split, True, decode)]
        except UserError as error:
            found.append(Finding("data", UNUSABLE, str(error), split=split))
    broken = {one.split for one in found if one.severity == UNUSABLE}
    sound = [split for split in splits if split not in broken]
    known = {(one.id, one.split) for one in found}
    found += [one for one in class_findings(cfg, task, sound, decode) if (one.id, one.split) not in known]
    images = images_of(cfg, splits, task.scope_of(cfg))
    if any(one.id == "validation-absent" for one in found):  # validating on the training images is found already
        images = {"train": images.get("train", [])}
    found += file_findings(images, decode, chosen_reading(cfg))
    return Checked(ordered(found), {split: len(paths) for split, paths in images.items()})


def flawed_entries(flaws: Sequence[str]) -> Finding:
    """The finding of entries that no reader of annotations takes. The other checks need these mended first."""
    (found,) = found_in(
        "annotation-form",
        UNUSABLE,
        "{count} entries cannot be read",
        flaws,
        "mend them; the other checks come after that",
    )
    return found


def present(cfg: Any) -> list[str]:
    """The splits of a config, without one that has the data sets of an earlier one."""
    known: list[Any] = []
    splits = []
    for split in SPLITS:
        datasets = [{**dataset, "pipeline": None, "test_mode": None} for dataset in datasets_of(cfg, split)]
        if datasets and datasets not in known:
            splits.append(split)
            known.append(datasets)
    return splits


def images_of(cfg: Any, splits: Sequence[str], scope: str) -> dict[str, list[Path]]:
    """The image files of each split whose format names them."""
    found: dict[str, list[Path]] = {}
    for split in splits:
        for dataset, form in formats_of(cfg, split, scope):
            try:
                found.setdefault(split, []).extend(form.images(dataset) or ())
            except UserError:  # the format's own findings say what is wrong
                continue
    return found


def class_findings(cfg: Any, task: Task, splits: Sequence[str], decode: bool) -> Iterator[Finding]:
    """Classes without labels, rare ones, and lists of classes that differ between splits.

    Labels that are pixels are counted with ``decode`` alone.
    """
    listed: dict[str, tuple[str, ...]] = {}
    bars: list[tuple[str, Bars]] = []
    for split in splits:
        for dataset, form in formats_of(cfg, split, task.scope_of(cfg)):
            listed.setdefault(split, tuple(form.classes(dataset) or ()))
            counts = form.counts(dataset) if decode or not form.counts_pixels else None
            if counts is not None:
                bars.append((split, Bars(f"labels of each class in {split}", names_of(dataset, len(counts)), counts)))
    charts = [one for _, one in bars]
    for split, one in bars:
        yield from counted(task.name, split, one.names, one.counts, charts)
    for split in splits:
        if split != "train" and listed.get("train"):
            yield from other_classes(split, listed[split], listed["train"])


def marked(charts: Iterable[Bars], names: Iterable[str]) -> list[list[Bars]]:
    """One picture of the charts of all splits, in which these classes are red."""
    found = frozenset(names)
    return [[replace(chart, marked=found) for chart in charts]]


def names_of(dataset: Any, number: int) -> list[str]:
    """The names of a data set's classes by its config; numbers if the config has other ones."""
    names = (dataset.get("metainfo") or {}).get("classes") or dataset.get("classes") or ()
    return list(names) if len(names) == number else [f"class {i}" for i in range(number)]


def counted(
    task: str, split: str, names: Sequence[str], counts: Sequence[int], charts: Sequence[Bars]
) -> Iterator[Finding]:
    """Classes that a split has no labels of, and in a training those that are rare."""
    empty = [name for name, count in zip(names, counts, strict=True) if not count]
    if split == "train":
        text = f"{{count}} of {len(names)} classes have no training labels, so they cannot be learned"
    else:
        text = f"{{count}} of {len(names)} classes have no labels in {split}, so their figures are empty"
    severity = WARNING if split == "train" else NOTE
    cure = "see whether all annotation files are there"
    yield from found_in("class-empty", severity, text, empty, cure, split=split, views=marked(charts, empty))
    present = [(count, name) for name, count in zip(names, counts, strict=True) if count]
    if split == "train" and present and max(present)[0] >= RARE * min(present)[0]:
        (many, most), (few, rarest) = max(present), min(present)
        text = f"class {most!r} has {many:,} labels, and {rarest!r} {few:,}"
        cures = [cure for option, cure in CURES.items() if task in OPTIONS[option]]
        views = tuple(marked(charts, [rarest]))
        yield Finding("class-rare", NOTE, text, "; ".join(cures), split=split, views=views)


def other_classes(split: str, names: Sequence[str], trained: Sequence[str]) -> Iterator[Finding]:
    if tuple(names) == tuple(trained) or not names:
        return

    def lists(marked: Iterable[str]) -> list[list[Names]]:
        found = frozenset(marked)
        return [[Names("classes of the training", trained, found), Names(f"classes of {split}", names, found)]]

    unknown = [name for name in names if name not in trained]
    lacking = [name for name in trained if name not in names]
    if unknown:
        text = f"{split} has {{count}} classes that the training has not"
        cure = "train on them, or set classes=[...]"
        yield from found_in("class-unknown", WARNING, text, unknown, cure, split=split, views=lists(unknown))
    if lacking:
        text = f"{split} has none of {{count}} classes of the training"
        yield from found_in("class-lacking", NOTE, text, lacking, split=split, views=lists(lacking))
    kept = [name for name in trained if name in names]
    if not unknown and kept != list(names):
        orders = f"{shorten(names)}; training: {shorten(trained)}"
        text = f"{split} lists its classes in another order than the training: {orders}"
        cure = "labels go by name, so only lists by number are wrong"
        views = tuple(lists(name for name, other in zip(names, kept, strict=True) if name != other))
        yield Finding("class-order", WARNING, text, cure, split=split, views=views)

"""What can be wrong with an annotation file in COCO's format, its images, and what a config needs of them."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from backbones import UserError
from backbones.errors import shorten
from detection.coco_entries import Annotations
from detection.coco_file import image_folder, read_annotations
from detection.image_findings import absent_images, other_sizes
from detection.object_findings import object_findings
from detection.objects import boxes_in
from detection.spots import places_of
from ziggurat.engine.findings import EXAMPLES, UNSEEN, UNUSABLE, WARNING, Finding, Place, caught, found_in
from ziggurat.engine.inside import check_inside
from ziggurat.engine.reading import reading_of_dataset
from ziggurat.engine.shown import Bars, Names
from ziggurat.engine.splits import datasets_of, under_root

UNUSED = "their boxes have a side below one pixel or no area, or lie outside the image"

UNSEEN |= {
    "categories-id": "it is about the list of categories",
    "category-name": "it is about the list of categories",
    "image-unknown": "the images are not in the list of images",
    "scored-images": "it is about two annotation files",
}


def coco_findings(dataset: Any, split: str, classes: list[str], thorough: bool = False) -> Iterator[Finding]:
    """The findings of one data set, in the order in which a training would meet them.

    Args:
        dataset: its config.
        split: ``"train"``, ``"val"`` or ``"test"``, which needs no annotations.
        classes: the classes of the config.
        thorough: look at the size of all images rather than of a sample, and at each object.
    """
    root, ann_file = Path(dataset.get("data_root") or "."), under_root(dataset, dataset.ann_file)
    if not root.is_dir():
        yield Finding("data-folder", UNUSABLE, f"no data folder {root}; allowed: --data or data_root with a folder")
        return
    try:
        coco = read_annotations(ann_file)
    except UserError as error:
        yield Finding("annotation-file", UNUSABLE, str(error))
        return
    folder = image_folder(dataset)
    yield from problem_findings(coco, ann_file, folder)
    if split != "test" and not coco.has_annotations:
        yield Finding("annotations-absent", UNUSABLE, f"{ann_file}: no annotations in it")
    yield from too_small(dataset, split, coco, ann_file)
    yield from caught("image-outside", check_inside, ann_file, "file_name", coco.file_names, folder, root)
    yield from absent_images(coco, ann_file, folder)
    boxes = partial(boxes_in, ann_file) if thorough and not coco.problems else dict
    yield from other_sizes(coco, ann_file, folder, thorough, reading_of_dataset(dataset), boxes)
    yield from class_findings(coco, ann_file, classes, split)
    if coco.problems:
        return
    yield from unused(coco, ann_file, split, folder)
    if any(t.get("with_mask") for t in (dataset.get("pipeline") or []) if t.get("type") == "LoadAnnotations"):
        yield from absent_masks(coco, ann_file, folder)
        yield from bad_masks(coco, ann_file, folder)
    if thorough:
        yield from object_findings(dataset, split, ann_file, folder)


def problem_findings(content: Annotations, ann_file: Path, folder: Path) -> Iterator[Finding]:
    """What makes an annotation file useless."""
    for problem in content.problems:
        places = tuple(places_of(problem.spots, folder))
        yield Finding(problem.id, UNUSABLE, f"{ann_file}: {problem.text}", count=problem.count, places=places)


def too_small(dataset: Any, split: str, coco: Annotations, ann_file: Path) -> Iterator[Finding]:
    min_size = (dataset.get("filter_cfg") or {}).get("min_size", 0)
    if split != "test" and not dataset.get("test_mode") and max(map(min, coco.sizes)) < min_size:
        yield Finding(
            "images-small",
            UNUSABLE,
            f"{ann_file}: all {len(coco.sizes)} images are too small, by their width and height in the file; "
            f"allowed: {min_size}x{min_size} pixels and larger",
            places=tuple(Place(image_folder(dataset) / name) for name in coco.file_names[:EXAMPLES]),
        )


def class_findings(coco: Annotations, ann_file: Path, classes: list[str], split: str) -> Iterator[Finding]:
    """Compares the classes of a run with the categories of a file. Their order does not matter, see ``named_coco``."""
    counts = [coco.counts.get(name, 0) for name in coco.categories]

    def lists(marked: Sequence[str]) -> tuple[Names, Bars]:
        title = f"objects of each category in {ann_file.name}"
        return Names("classes of the run", classes, marked), Bars(title, coco.categories, counts, marked)

    unknown = [name for name in classes if name not in coco.categories]
    if unknown and (split == "train" or len(unknown) == len(classes)):
        yield Finding(
            "class-unknown",
            UNUSABLE,
            f"{ann_file}: no category for the classes {shorten(unknown)}; its categories: "
            f"{shorten(coco.categories, 10)}. Set classes=[...] to some of these, or leave classes out to take all",
            count=len(unknown),
            views=(lists(unknown),),
        )
        return
    text = f"{ann_file}: {{count}} classes of the run have no category in it, so nothing of them can be found there"
    yield from found_in("class-lacking", WARNING, text, unknown, views=[lists(unknown)])
    left_out = [name for name in coco.categories if name not in classes and coco.counts.get(name)]
    number = sum(coco.counts[name] for name in left_out)
    text = f"{ann_file}: {number:,} annotations are of {{count}} categories that the classes leave out"
    cure = "classes=[...] names all that are to be learned"
    yield from found_in("category-left-out", WARNING, text, left_out, cure, views=[lists(left_out)])


def unused(coco: Annotations, ann_file: Path, split: str, folder: Path) -> Iterator[Finding]:
    """Annotations that no training uses."""
    places = places_of(coco.spots.get("unused", ()), folder)
    if split == "train" and coco.unused and not coco.counts:
        text = f"{ann_file}: no annotation is left to train on; {UNUSED}"
        yield from found_in("annotation-unused", UNUSABLE, text, coco.unused, places=places)
    elif split == "train":
        text = f"{ann_file}: left out of the training: {{count}} annotations; {UNUSED}"
        yield from found_in("annotation-unused", WARNING, text, coco.unused, places=places)
    else:
        text = f"{ann_file}: {{count}} annotations count in the metrics, and no training would use them; {UNUSED}"
        yield from found_in("annotation-unused", WARNING, text, coco.unused, places=places)


def absent_masks(coco: Annotations, ann_file: Path, folder: Path) -> Iterator[Finding]:
    if coco.without_mask:
        yield Finding(
            "mask-absent",
            UNUSABLE,
            f"{ann_file}: {coco.without_mask} annotations have no segmentation; "
            "use a detector without masks (retinanet_*), or add segmentations",
            count=coco.without_mask,
            places=tuple(places_of(coco.spots.get("without_mask", ()), folder)),
        )


def bad_masks(coco: Annotations, ann_file: Path, folder: Path) -> Iterator[Finding]:
    if coco.bad_masks:
        yield Finding(
            "mask-form",
            UNUSABLE,
            f"{ann_file}: bad masks of the annotations {shorten(coco.bad_masks)}; allowed: polygons of three or more "
            "points, or run lengths of the image's size; data_format=coco turns other forms where it can",
            count=len(coco.bad_masks),
            places=tuple(places_of(coco.spots.get("bad_masks", ()), folder)),
        )


def scored_findings(cfg: Any, split: str) -> Iterator[Finding]:
    """Whether the file that a split's metric reads is of the split's images, and has the masks that are scored."""
    evaluators = cfg.get(f"{split}_evaluator") or []
    for metric in evaluators if isinstance(evaluators, list | tuple) else [evaluators]:
        if not str(metric.get("type")).endswith("CocoMetric") or not metric.get("ann_file"):
            continue
        path, kinds = Path(metric.ann_file), metric.get("metric", "bbox")
        yield from other_images(cfg, split, path)
        if {"segm", "boundary"} & set(kinds if isinstance(kinds, list | tuple) else [kinds]):
            folder = next((image_folder(dataset) for dataset in datasets_of(cfg, split)), Path())
            yield from scored_masks(path, split, folder)


def other_images(cfg: Any, split: str, path: Path) -> Iterator[Finding]:
    """Whether a metric reads the annotations of the split's images. Configs of mmdet name the file in two places."""
    files = [under_root(dataset, dataset.ann_file) for dataset in datasets_of(cfg, split) if dataset.get("ann_file")]
    if len(files) != 1 or path.resolve() == files[0].resolve():
        return
    known, names = set(read_annotations(path).file_names), read_annotations(files[0]).file_names
    absent = [name for name in names if name not in known]
    cure = f"leave {split}_evaluator.ann_file out"
    where = f"{split}_evaluator.ann_file is {path}"
    if absent:
        text = f"{where}, which does not name {shorten(absent)} of the data set's {files[0]}; {cure}"
        yield Finding("scored-images", UNUSABLE, text, count=len(absent))
    else:
        yield Finding("scored-images", WARNING, f"{where}, and the data set reads {files[0]}", cure=cure)


def scored_masks(path: Path, split: str, folder: Path) -> Iterator[Finding]:
    """Whether all annotations of a metric's file have masks."""
    coco = read_annotations(path)
    yield from bad_masks(coco, path, folder)
    if coco.without_mask:
        yield Finding(
            "mask-absent",
            UNUSABLE,
            f"{path}: {coco.without_mask} annotations have no segmentation, and {split}_evaluator scores masks; "
            f"allowed: {split}_evaluator.metric=bbox, or segmentations",
            count=coco.without_mask,
            places=tuple(places_of(coco.spots.get("without_mask", ()), folder)),
        )

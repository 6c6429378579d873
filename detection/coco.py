"""COCO's format: the classes of an annotation file, and checks of its entries and images before a run starts."""

import json
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from mmdet.datasets import CocoDataset, LVISV05Dataset

from backbones import UserError
from backbones.errors import shorten
from backbones.images import SUFFIXES
from engine.formats import Format, class_of, register_format
from engine.splits import under_root

COCO_CLASSES = CocoDataset.METAINFO["classes"]


@register_format(CocoDataset)
class CocoFormat(Format):
    """An annotation file in COCO's format, for mmdet's CocoDataset and its subclasses."""

    def classes(self, dataset: Any) -> tuple[str, ...] | None:
        """All categories of the file. A subclass of CocoDataset with a METAINFO of its own gives the classes there."""
        own = own_classes(dataset)
        if own is not COCO_CLASSES:
            return tuple(own)
        ann_file = under_root(dataset, dataset.ann_file)
        return read_annotations(ann_file).categories if ann_file.is_file() else None

    def complete_evaluator(self, dataset: Any, evaluator: Any) -> None:
        """Gives a CocoMetric its annotation file, which the metric reads itself."""
        if str(evaluator.get("type")).endswith("CocoMetric") and evaluator.get("ann_file") is None:
            evaluator.ann_file = str(under_root(dataset, dataset.ann_file))

    def check(self, dataset: Any, split: str) -> None:
        """Checks the annotation file, its images, and the classes and masks that the config needs.

        Raises:
            UserError: an image folder or annotation file is missing, empty or not COCO; images are absent; classes are
                not among the categories; annotations name unknown images or categories, or lack masks that the
                pipeline loads. Test sets need no annotations.
        """
        check_dataset(dataset, needs_annotations=split != "test")


register_format(LVISV05Dataset)(Format)  # derived from CocoDataset, but its files have other entries


def check_dataset(dataset: Any, needs_annotations: bool) -> None:
    root = Path(dataset.get("data_root") or ".")
    if not root.is_dir():
        raise UserError(f"no data folder {root}; set data_root=FOLDER")
    ann_file = under_root(dataset, dataset.ann_file)
    coco = read_annotations(ann_file)
    if coco.problem:
        raise UserError(f"{ann_file}: {coco.problem}")
    if needs_annotations and not coco.has_annotations:
        raise UserError(f"{ann_file}: no annotations in it")

    min_size = (dataset.get("filter_cfg") or {}).get("min_size", 0)
    if needs_annotations and not dataset.get("test_mode") and max(coco.short_sides) < min_size:
        raise UserError(
            f"{ann_file}: all {len(coco.short_sides)} images are too small, by their width and height in the file; "
            f"allowed: {min_size}x{min_size} pixels and larger"
        )

    folder = under_root(dataset, (dataset.get("data_prefix") or {}).get("img", ""))
    check_images(coco, ann_file, folder)
    classes = (dataset.get("metainfo") or {}).get("classes") or own_classes(dataset)
    check_classes(coco, ann_file, [classes] if isinstance(classes, str) else list(classes))
    loads_masks = any(t.get("with_mask") for t in dataset.get("pipeline", []) if t.get("type") == "LoadAnnotations")
    if loads_masks and coco.without_mask:
        raise UserError(
            f"{ann_file}: {coco.without_mask} annotations have no segmentation; "
            "use a detector without masks (retinanet_*), or add segmentations"
        )


def check_scored_masks(cfg: Any, split: str) -> None:
    """Checks before a run that the masks are there that a split's metric scores at its end.

    Raises:
        UserError: a CocoMetric of masks has an annotation file in which annotations lack a segmentation.
    """
    evaluators = cfg.get(f"{split}_evaluator") or []
    for metric in evaluators if isinstance(evaluators, list | tuple) else [evaluators]:
        kinds = metric.get("metric", "bbox")
        scores_masks = bool({"segm", "boundary"} & {*([kinds] if isinstance(kinds, str) else kinds)})
        if str(metric.get("type")).endswith("CocoMetric") and scores_masks and metric.get("ann_file"):
            without = read_annotations(Path(metric.ann_file)).without_mask
            if without:
                raise UserError(
                    f"{metric.ann_file}: {without} annotations have no segmentation, and {split}_evaluator scores "
                    f"masks; allowed: {split}_evaluator.metric=bbox, or segmentations"
                )


def own_classes(dataset: Any) -> tuple[str, ...]:
    """The default classes of the data set's class: COCO's, or those of a subclass."""
    return class_of(dataset, "mmdet").METAINFO["classes"]


def check_images(coco: "Annotations", ann_file: Path, folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(f"no image folder {folder}; set data_root or data_prefix.img of the data set")
    there: dict[Path, set[str]] = {}  # one listing per folder: asking for each file takes minutes on network discs
    absent = []
    for name in coco.file_names:
        path = folder / name
        if path.parent not in there:
            there[path.parent] = {p.name for p in path.parent.iterdir()} if path.parent.is_dir() else set()
        if path.name not in there[path.parent]:
            absent.append(name)
    if len(absent) == len(coco.file_names) and not any(p.suffix.lower() in SUFFIXES for p in folder.rglob("*")):
        raise UserError(f"no images in {folder}")
    if absent:
        of = f"{len(absent)} of {len(coco.file_names)} images are not in {folder}"
        raise UserError(f"{ann_file}: {of}: {shorten(absent)}")


def check_classes(coco: "Annotations", ann_file: Path, classes: list[str]) -> None:
    unknown = [name for name in classes if name not in coco.categories]
    if unknown:
        raise UserError(
            f"{ann_file}: no category for the classes {shorten(unknown)}; its categories: "
            f"{shorten(coco.categories, 10)}. Set classes=[...] to some of these, or leave classes out to take all"
        )
    # mmdet numbers labels in the file's order of categories, and ignores the order of the classes
    in_file_order = [name for name in coco.categories if name in classes]
    if in_file_order != classes:
        raise UserError(
            f"{ann_file}: the classes are in another order than its categories: {shorten(classes, 5)}; "
            f"allowed: {shorten(in_file_order, 5)}"
        )


class Annotations(NamedTuple):
    """The parts of a COCO file that the checks need.

    Attributes:
        categories: names, in the order of the file.
        file_names: of the images, below the image folder.
        short_sides: the smaller of width and height of each image, in pixels.
        has_annotations: whether there is any annotation.
        without_mask: number of annotations without a segmentation.
        problem: the message for a malformed file, or None.
    """

    categories: tuple[str, ...]
    file_names: tuple[str, ...]
    short_sides: tuple[float, ...]
    has_annotations: bool
    without_mask: int
    problem: str | None


def read_annotations(path: Path) -> Annotations:
    """Reads a COCO file, once per process; UserError if the file is missing or is not COCO json."""
    return read_content(path, summary)


def read_content(path: Path, summarise: Callable[[dict], Any]) -> Any:
    """What ``summarise`` makes of a COCO-like json, read once per process.

    Raises:
        UserError: the file is missing, broken, has no images or categories, or ``summarise`` fails at an entry.
    """
    try:
        stat = path.stat()
    except OSError:
        others = sorted(p.name for p in path.parent.glob("*.json")) if path.parent.is_dir() else []
        there = f"json files there: {shorten(others)}" if others else "there is no json file in that folder"
        raise UserError(f"no annotation file {path}; {there}") from None
    return parse(path, stat.st_mtime_ns, stat.st_size, summarise)


@lru_cache(maxsize=8)
def parse(path: Path, mtime: int, size: int, summarise: Callable[[dict], Any]) -> Any:
    try:
        data = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: broken json at line {error.lineno}, column {error.colno}: {error.msg}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    lists = ("images", "categories")
    if not isinstance(data, dict) or any(not isinstance(data.get(key), list) for key in lists):
        raise UserError(f"{path}: not COCO json; needed: a dict with the lists images, annotations and categories")
    for key in lists:
        if not data[key]:
            raise UserError(f"{path}: the list {key} is empty")
    try:
        return summarise(data)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not COCO json; an entry is malformed ({type(error).__name__}: {error})") from None


def summary(data: dict) -> Annotations:
    image_ids = {image["id"] for image in data["images"]}
    category_ids = {category["id"] for category in data["categories"]}
    names = tuple(str(category["name"]) for category in data["categories"])
    annotations = data.get("annotations") or []
    lost_images = sorted({str(a["image_id"]) for a in annotations if a["image_id"] not in image_ids})
    lost_categories = sorted({str(a["category_id"]) for a in annotations if a["category_id"] not in category_ids})
    malformed = [a["id"] for a in annotations if len(a["bbox"]) != 4]
    repeated = [name for name, count in Counter(names).items() if count > 1]
    problem = None
    if repeated:
        problem = f"several categories have the name {shorten(repeated)}"
    elif lost_images:
        problem = f"annotations name image ids that are not in the list of images: {shorten(lost_images)}"
    elif lost_categories:
        problem = f"annotations name category ids that are not in the list of categories: {shorten(lost_categories)}"
    elif malformed:
        problem = f"bbox must be [x, y, width, height]; not so in the annotations {shorten(malformed)}"
    elif len({a["id"] for a in annotations}) < len(annotations):
        problem = "annotations share ids; each needs its own"
    return Annotations(
        categories=names,
        file_names=tuple(image["file_name"] for image in data["images"]),
        short_sides=tuple(min(image["width"], image["height"]) for image in data["images"]),
        has_annotations=bool(annotations),
        without_mask=sum(not a.get("segmentation") for a in annotations),
        problem=problem,
    )

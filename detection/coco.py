"""COCO's format: the classes of an annotation file, and checks of its entries and images before a run starts."""

import json
import mmap
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset

from backbones import UserError
from backbones.errors import shorten
from backbones.images import SUFFIXES, upright_size
from detection.coco_entries import Annotations, summary
from engine.coco_schema import Flawed
from engine.console import say_note
from engine.formats import Format, class_of, register_format
from engine.inside import check_inside
from engine.splits import under_root

COCO_CLASSES = CocoDataset.METAINFO["classes"]
LARGE = 1 << 22  # bytes of a file that is not read for its categories alone
IMAGES_LOOKED_AT = 50  # images of each data set whose size is checked before a run
UNUSED = "their boxes have a side below one pixel or no area, or lie outside the image"


@register_format(CocoDataset)
class CocoFormat(Format):
    """An annotation file in COCO's format, for mmdet's CocoDataset and its subclasses."""

    def classes(self, dataset: Any) -> tuple[str, ...] | None:
        """All categories of the file. A subclass of CocoDataset with a METAINFO of its own gives the classes there."""
        own = own_classes(dataset)
        if own is not COCO_CLASSES:
            return own and tuple(own)  # None of a data set that reads its classes from a file of its own
        ann_file = under_root(dataset, dataset.ann_file)
        return category_names(ann_file) if ann_file.is_file() else None

    def counts(self, dataset: Any) -> list[int]:
        """How many objects each class has, without crowds and what is not trained on."""
        found = read_annotations(under_root(dataset, dataset.ann_file)).counts
        return [found.get(name, 0) for name in classes_of(dataset)]

    def complete_evaluator(self, dataset: Any, evaluator: Any) -> None:
        """Gives a CocoMetric its annotation file, which the metric reads itself."""
        if str(evaluator.get("type")).endswith("CocoMetric") and evaluator.get("ann_file") is None:
            evaluator.ann_file = str(under_root(dataset, dataset.ann_file))

    def check(self, dataset: Any, split: str) -> None:
        """Checks the annotation file, its images, and the classes and masks that the config needs.

        Raises:
            UserError: an image folder or annotation file is missing, empty or not COCO; images are absent, or of
                another size than the file says; classes are not among the categories; annotations name unknown images
                or categories, or lack masks that the pipeline loads, or none is left to train on. Test sets need no
                annotations.
        """
        check_dataset(dataset, split)


def check_dataset(dataset: Any, split: str) -> None:
    needs_annotations = split != "test"
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
    if needs_annotations and not dataset.get("test_mode") and max(map(min, coco.sizes)) < min_size:
        raise UserError(
            f"{ann_file}: all {len(coco.sizes)} images are too small, by their width and height in the file; "
            f"allowed: {min_size}x{min_size} pixels and larger"
        )

    folder = under_root(dataset, (dataset.get("data_prefix") or {}).get("img", ""))
    check_inside(ann_file, "file_name", coco.file_names, folder, root)
    check_images(coco, ann_file, folder)
    check_sizes(coco, ann_file, folder)
    check_classes(coco, ann_file, classes_of(dataset), split)
    if split == "train":
        check_used(coco, ann_file)
    elif coco.unused:
        say_note(
            f"{ann_file}: {len(coco.unused)} annotations count in the metrics, and no training would use them; "
            f"{UNUSED}: {shorten(coco.unused)}"
        )
    loads_masks = any(t.get("with_mask") for t in dataset.get("pipeline", []) if t.get("type") == "LoadAnnotations")
    if loads_masks and coco.without_mask:
        raise UserError(
            f"{ann_file}: {coco.without_mask} annotations have no segmentation; "
            "use a detector without masks (retinanet_*), or add segmentations"
        )
    if loads_masks:
        check_masks(coco, ann_file)


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
            coco = read_annotations(Path(metric.ann_file))
            check_masks(coco, Path(metric.ann_file))
            without = coco.without_mask
            if without:
                raise UserError(
                    f"{metric.ann_file}: {without} annotations have no segmentation, and {split}_evaluator scores "
                    f"masks; allowed: {split}_evaluator.metric=bbox, or segmentations"
                )


def check_masks(coco: Annotations, ann_file: Path) -> None:
    if coco.bad_masks:
        raise UserError(
            f"{ann_file}: bad masks of the annotations {shorten(coco.bad_masks)}; allowed: polygons of three or more "
            "points, or run lengths of the image's size"
        )


def check_used(coco: Annotations, ann_file: Path) -> None:
    """Says how many annotations are not trained on. Raises UserError if none is left."""
    if not coco.unused:
        return
    if not coco.counts:
        raise UserError(f"{ann_file}: no annotation is left to train on; {UNUSED}: {shorten(coco.unused)}")
    say_note(f"{ann_file}: left out of the training: {len(coco.unused)} annotations; {UNUSED}: {shorten(coco.unused)}")


def classes_of(dataset: Any) -> list[str]:
    """The classes in a data set's config; the default classes if it has none."""
    classes = (dataset.get("metainfo") or {}).get("classes") or own_classes(dataset)
    return [classes] if isinstance(classes, str) else list(classes)


def own_classes(dataset: Any) -> tuple[str, ...]:
    """The default classes of the data set's class: COCO's, or those of a subclass."""
    return class_of(dataset, "mmdet").METAINFO["classes"]


def check_images(coco: Annotations, ann_file: Path, folder: Path) -> None:
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


def check_sizes(coco: Annotations, ann_file: Path, folder: Path) -> None:
    """Compares up to 50 images, evenly spread, with the sizes in the file. Each image is compared when it is loaded.

    An unreadable image has no size here. Its loading says so, and a run may go on without it.
    """
    step = -(-len(coco.sizes) // IMAGES_LOOKED_AT)
    for name, size in list(zip(coco.file_names, coco.sizes, strict=True))[::step]:
        try:
            found = upright_size(folder / name)
        except UserError:
            continue
        check_size_of(folder / name, found, size, str(ann_file))


def check_size_of(path: str | Path, found: tuple[int, int], said: tuple[float, float], where: str) -> None:
    """Raises UserError for an image whose (width, height) is not the one that the annotations belong to."""
    if tuple(found) != tuple(said):
        raise UserError(
            f"{path} has {found[0]}x{found[1]} pixels, and by {where} {said[0]:g}x{said[1]:g}; allowed: the same size, "
            "since the annotations belong to it"
        )


def check_classes(coco: Annotations, ann_file: Path, classes: list[str], split: str) -> None:
    """Compares the classes of a run with the categories of a file. Their order and ids do not matter.

    Raises:
        UserError: a training file lacks one of the classes, or another file all of them.
    """
    unknown = [name for name in classes if name not in coco.categories]
    if unknown and (split == "train" or len(unknown) == len(classes)):
        raise UserError(
            f"{ann_file}: no category for the classes {shorten(unknown)}; its categories: "
            f"{shorten(coco.categories, 10)}. Set classes=[...] to some of these, or leave classes out to take all"
        )
    if unknown:
        say_note(f"{ann_file}: no category for the classes {shorten(unknown)}, so nothing of them can be found there")
    further = {name: coco.counts[name] for name in coco.categories if name not in classes and coco.counts.get(name)}
    if further:
        say_note(
            f"{ann_file}: {sum(further.values())} objects are of no class of this run, and are left out: "
            f"{shorten(further, 10)}"
        )


def category_names(path: Path) -> tuple[str, ...]:
    """The names of the categories of a COCO file, in its order.

    Of a large file only the list of categories is read, if it can be told: the training file of COCO has 450 MB.

    Raises:
        UserError: as :func:`read_annotations`.
    """
    if path.stat().st_size < LARGE:
        return read_annotations(path).categories
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        places = list(re.finditer(rb'"categories"\s*:\s*(?=\[\s*\{)', text))
        part = text[places[0].end() : places[0].end() + LARGE] if len(places) == 1 else b""
    try:
        found, _ = json.JSONDecoder().raw_decode(part.decode(errors="ignore"))
        return tuple(str(category["name"]) for category in found)
    except (ValueError, TypeError, KeyError, RecursionError):
        return read_annotations(path).categories


def read_annotations(path: Path) -> Annotations:
    """Reads a COCO file, once per process; UserError if the file is missing or is not COCO json."""
    return read_content(path, summary)


def read_content(path: Path, summarise: Callable[[dict], Any]) -> Any:
    """What ``summarise`` makes of a COCO-like json, read once per process.

    Raises:
        UserError: the file is missing, broken, or has no images or categories, or an entry is of another form.
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
    except RecursionError:
        raise UserError(f"{path}: not COCO json, but lists in lists without end") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: broken json at line {error.lineno}, column {error.colno}: {error.msg}") from None
    except (OSError, ValueError) as error:  # no text, or a number of more digits than Python reads
        raise UserError(f"{path}: cannot be read ({error})") from None
    lists = ("images", "categories")
    if not isinstance(data, dict) or any(not isinstance(data.get(key), list) for key in lists):
        raise UserError(f"{path}: not COCO json; needed: a dict with the lists images, annotations and categories")
    for key in lists:
        if not data[key]:
            raise UserError(f"{path}: the list {key} is empty")
    try:
        return summarise(data)
    except Flawed as flaw:
        raise UserError(f"{path}: {flaw}") from None

"""COCO's panoptic format: classes of an annotation file, and checks of its entries, images and maps before a run.

Heads number things before stuff. A file may list its categories in any order.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
from mmdet import datasets
from mmdet.datasets.api_wrappers import COCOPanoptic
from mmdet.datasets.transforms import loading
from mmdet.registry import DATASETS, TRANSFORMS

from backbones import UserError
from backbones.errors import shorten
from backbones.images import opened
from detection.coco_entries import Annotations, problem, repeated_entries
from detection.coco_file import read_content
from detection.coco_findings import absent_images, check_size_of, other_sizes, problem_findings
from detection.spots import Spot, spots_of
from engine.coco_schema import ID, Rules, check_form, is_box, is_integer, is_name, is_number
from engine.findings import EXAMPLES, UNSEEN, UNUSABLE, Finding, Place, caught, found_in
from engine.formats import Format, class_of, register_format
from engine.inside import check_inside
from engine.reading import reading_of_dataset
from engine.splits import under_root

UNSEEN |= {
    "map-absent": "the maps are not there",
    "map-folder": "the folder is not there",
    "map-outside": "the maps are outside the data",
}
COLOURS = 1 << 24  # the id of a segment is a colour of the map
COCO_CLASSES = datasets.CocoPanopticDataset.METAINFO["classes"]


def things_first(categories: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The categories of a file, all things before all stuff, and otherwise in the file's order."""
    return sorted(categories, key=lambda category: not category["isthing"])


def map_names(content: dict[str, Any]) -> dict[Any, str]:
    """The file name of each image's map, by the image's id, as the annotations give it.

    Without an annotation it is the name of the image, with the suffix .png.
    """
    names = {image["id"]: str(Path(image["file_name"]).with_suffix(".png")) for image in content["images"]}
    given = {one["image_id"]: one.get("file_name") for one in content.get("annotations") or []}
    return {number: given.get(number) or name for number, name in names.items()}


class ThingsFirst(COCOPanoptic):
    """mmdet's index of a panoptic file, whose categories are in the order of the labels. Any suffix of images fits."""

    def createIndex(self) -> None:
        self.dataset["categories"] = things_first(self.dataset["categories"])
        super().createIndex()
        for number, name in map_names(self.dataset).items():
            self.imgs[number]["segm_file"] = name


@DATASETS.register_module(force=True)  # in place of mmdet's, which numbers classes in the file's order
class CocoPanopticDataset(datasets.CocoPanopticDataset):
    """mmdet's CocoPanopticDataset for files that list things and stuff in any order, and name maps as they like."""

    COCOAPI = ThingsFirst

    def parse_data_info(self, raw_data_info: dict[str, Any]) -> dict[str, Any]:
        found = super().parse_data_info(raw_data_info)
        if found["seg_map_path"] is not None:
            found["seg_map_path"] = str(Path(self.data_prefix["seg"]) / raw_data_info["raw_img_info"]["segm_file"])
        return found


@TRANSFORMS.register_module(force=True)
class LoadPanopticAnnotations(loading.LoadPanopticAnnotations):
    """mmdet's LoadPanopticAnnotations, whose errors name the map.

    Raises:
        UserError: a map cannot be read, or has another size than its image.
    """

    def _load_masks_and_semantic_segs(self, results: dict[str, Any]) -> None:
        path, size = results.get("seg_map_path"), results["ori_shape"]
        with naming_map(path, size):
            super()._load_masks_and_semantic_segs(results)
            if "gt_seg_map" in results and results["gt_seg_map"].shape != size:
                raise ValueError(f"the map's shape is {results['gt_seg_map'].shape}")


@contextlib.contextmanager
def naming_map(path: str | Path | None, size: tuple[int, int]) -> Iterator[None]:
    """Lets an error inside the block name the map that is its cause. The map is read here after an error alone.

    Args:
        path: of the map; None for an image without a map.
        size: (height, width) of its image.

    Raises:
        UserError: there was an error, and the map cannot be read, or has another size than its image.
    """
    try:
        yield
    except Exception as error:
        if path is not None:
            with opened(path, what="map") as image:
                image.load()
            check_size_of(path, image.size, size[::-1], "its image")
            if isinstance(error, cv2.error):  # OpenCV cannot decode what Pillow can
                raise UserError(f"map cannot be decoded: {path}; allowed: a PNG file of 8 bits a channel") from None
        raise


@register_format(datasets.CocoPanopticDataset)
class PanopticFormat(Format):
    """A json file of segments and a folder of maps, whose colours are the segments' ids, for CocoPanopticDataset."""

    def classes(self, dataset: Any) -> tuple[str, ...] | None:
        """All categories of the file. A subclass with a METAINFO of its own gives the classes there."""
        own = class_of(dataset, "mmdet").METAINFO["classes"]
        if own is not COCO_CLASSES:
            return tuple(own)
        ann_file = under_root(dataset, dataset.ann_file)
        return read_panoptic(ann_file)[0].categories if ann_file.is_file() else None

    def set_classes(self, dataset: Any, names: tuple[str, ...], palette: Any, replace: bool = False) -> None:
        """Also names the classes that are things, and those that are stuff, as the file says.

        Raises:
            UserError: ``names`` is a choice of a user's. Every pixel has a segment, so all categories are needed.
        """
        ann_file = under_root(dataset, dataset.ann_file)
        content, things = read_panoptic(ann_file) if ann_file.is_file() else (None, ())
        if replace and (content is None or tuple(names) != content.categories):
            raise UserError(
                f"classes=[{shorten(names)}]: a panoptic data set takes all categories; allowed: classes=None"
            )
        if content is not None:
            super().set_classes(dataset, names, palette, replace)
            stuff = tuple(name for name in names if name not in things)
            dataset.metainfo.update(thing_classes=things, stuff_classes=stuff)

    def counts(self, dataset: Any) -> list[int]:
        """How many segments each class has, without crowds."""
        content, _ = read_panoptic(under_root(dataset, dataset.ann_file))
        return [content.counts.get(name, 0) for name in content.categories]

    def complete_evaluator(self, dataset: Any, evaluator: Any) -> None:
        """Gives a CocoPanopticMetric its annotation file and the folder of its maps."""
        if str(evaluator.get("type")).endswith("CocoPanopticMetric"):
            for key, path in (("ann_file", dataset.ann_file), ("seg_prefix", dataset.data_prefix.get("seg", ""))):
                if evaluator.get(key) is None:
                    evaluator[key] = str(under_root(dataset, path))

    def images(self, dataset: Any) -> list[Path]:
        """The images that the annotation file names."""
        content, _ = read_panoptic(under_root(dataset, dataset.ann_file))
        return [under_root(dataset, dataset.data_prefix["img"]) / name for name in content.file_names]

    def findings(self, dataset: Any, split: str, thorough: bool = False, decode: bool = False) -> Iterator[Finding]:
        """What is wrong with the annotation file, its images and maps.

        A training refuses a file that is missing or no panoptic json, and images or maps that are absent or have
        another size than the file says.
        """
        ann_file, prefix, root = under_root(dataset, dataset.ann_file), dataset.data_prefix, dataset.get("data_root")
        try:
            content, _ = read_panoptic(ann_file)
        except UserError as error:
            yield Finding("annotation-file", UNUSABLE, str(error))
            return
        images, maps = under_root(dataset, prefix["img"]), under_root(dataset, prefix.get("seg", ""))
        yield from problem_findings(content, ann_file, images)
        if split != "test" and not content.has_annotations:
            yield Finding("annotations-absent", UNUSABLE, f"{ann_file}: no segments in it")
        if split != "test" and content.without_annotation:
            number, total = len(content.without_annotation), len(content.file_names)
            yield Finding(
                "image-unannotated",
                UNUSABLE,
                f"{ann_file}: {number} of {total} images have no annotation: {shorten(content.without_annotation)}; "
                "allowed: one for each image",
                count=number,
                places=tuple(Place(images / name) for name in content.without_annotation[:EXAMPLES]),
            )
        yield from caught("image-outside", check_inside, ann_file, "file_name", content.file_names, images, root)
        yield from caught("map-outside", check_inside, ann_file, "file_name", content.map_names, maps, root)
        yield from absent_images(content, ann_file, images)
        yield from other_sizes(content, ann_file, images, thorough, reading_of_dataset(dataset))
        if split != "test":
            yield from map_findings(content, ann_file, maps, thorough)


def map_findings(content: Annotations, ann_file: Path, folder: Path, thorough: bool) -> Iterator[Finding]:
    if not folder.is_dir():
        text = f"no folder of panoptic maps {folder}; set data_root or data_prefix.seg of the data set"
        yield Finding("map-folder", UNUSABLE, text)
        return
    maps = content.map_names
    absent = [name for name in maps if not (folder / name).is_file()]
    yield from found_in(
        "map-absent", UNUSABLE, f"{ann_file}: {{count}} of {len(maps)} maps are not in {folder}", absent
    )
    yield from other_sizes(content._replace(file_names=maps), ann_file, folder, thorough)


def read_panoptic(path: Path) -> tuple[Annotations, tuple[str, ...]]:
    """Reads a panoptic json, once per process: its content, and the names of the things.

    Raises:
        UserError: the file is missing, broken or malformed.
    """
    return read_content(path, summary)


def are_segments(value: Any) -> bool:
    """Whether these are dicts with the keys that every segment has."""
    return isinstance(value, list) and all(map(is_segment, value))


def is_segment(value: Any) -> bool:
    if not isinstance(value, dict) or not is_integer(value.get("category_id")) or not is_integer(value.get("id")):
        return False
    return 0 <= value["id"] < COLOURS and value.get("iscrowd") in (0, 1, None)


ANNOTATION: Rules = {
    "image_id": ID,
    "file_name": ("the name of a file", lambda value: not value or is_name(value)),
    "segments_info": (
        f"a list of dicts with category_id and id, from 0 to {COLOURS - 1}, iscrowd 0 or 1",
        are_segments,
    ),
}
CATEGORY: Rules = {"isthing": ("0, 1", lambda value: value in (0, 1))}


def has_extent(segment: dict[str, Any]) -> bool:
    return is_box(segment.get("bbox")) and is_number(segment.get("area"))


def summary(data: dict) -> tuple[Annotations, tuple[str, ...]]:
    check_form(data, ANNOTATION, CATEGORY)
    ordered = things_first(data["categories"])
    sizes = {image["id"]: (float(image["width"]), float(image["height"])) for image in data["images"]}
    names = {category["id"]: str(category["name"]) for category in ordered}
    annotations = data.get("annotations") or []
    segments = [segment for annotation in annotations for segment in annotation["segments_info"]]
    lost_images = sorted({str(a["image_id"]) for a in annotations if a["image_id"] not in sizes})
    lost_categories = sorted({str(s["category_id"]) for s in segments if s["category_id"] not in names})
    annotated = {annotation["image_id"] for annotation in annotations}
    malformed = [s["id"] for s in segments if not has_extent(s)]

    def seen(is_flawed: Callable[[dict[str, Any]], bool]) -> tuple[Spot, ...]:
        pairs = ((whole["image_id"], one) for whole in annotations for one in whole["segments_info"])
        return spots_of(({**one, "image_id": image} for image, one in pairs if is_flawed(one)), data["images"])

    found = (
        *repeated_entries(data),
        *problem("image-unknown", "annotations name image ids that are not in the list of images: {}", lost_images),
        *problem(
            "category-unknown",
            "segments name category ids that are not in the list of categories: {}",
            lost_categories,
            seen(lambda segment: segment["category_id"] not in names),
        ),
        *problem(
            "box-form",
            "a segment needs an area and bbox=[x, y, width, height]; not so in the segments {}",
            malformed,
            seen(lambda segment: not has_extent(segment)),
        ),
    )
    content = Annotations(
        categories=tuple(str(category["name"]) for category in ordered),
        file_names=tuple(image["file_name"] for image in data["images"]),
        sizes=tuple((float(image["width"]), float(image["height"])) for image in data["images"]),
        has_annotations=bool(segments),
        without_mask=0,
        problems=found,
        counts={} if found else dict(Counter(names[s["category_id"]] for s in segments if not s.get("iscrowd"))),
        map_names=tuple(map_names(data).values()),
        without_annotation=tuple(image["file_name"] for image in data["images"] if image["id"] not in annotated),
    )
    return content, tuple(str(category["name"]) for category in ordered if category["isthing"])

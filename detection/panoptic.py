"""COCO's panoptic format: classes of an annotation file, and checks of its entries, images and maps before a run.

Heads number things before stuff. A file may list its categories in any order.
"""

import contextlib
from collections.abc import Iterator
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
from detection.coco_entries import Annotations
from detection.coco_findings import problem_findings
from detection.image_findings import absent_images, check_size_of, other_sizes
from detection.panoptic_entries import map_names, read_panoptic, things_first
from ziggurat.engine.findings import EXAMPLES, UNSEEN, UNUSABLE, Finding, Place, caught, found_in
from ziggurat.engine.formats import Format, class_of, register_format
from ziggurat.engine.inside import check_inside
from ziggurat.engine.reading import reading_of_dataset
from ziggurat.engine.splits import under_root

UNSEEN |= {
    "map-absent": "the maps are not there",
    "map-folder": "the folder is not there",
    "map-outside": "the maps are outside the data",
}
COCO_CLASSES = datasets.CocoPanopticDataset.METAINFO["classes"]


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

"""COCO's format: the classes of an annotation file, and what is looked at before a run starts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset

from detection.coco_file import category_names, image_folder, read_annotations
from detection.coco_findings import coco_findings
from ziggurat.engine.findings import Finding
from ziggurat.engine.formats import Format, class_of, register_format
from ziggurat.engine.splits import under_root

COCO_CLASSES = CocoDataset.METAINFO["classes"]


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

    def images(self, dataset: Any) -> list[Path]:
        """The images that the annotation file names."""
        folder = image_folder(dataset)
        return [folder / name for name in read_annotations(under_root(dataset, dataset.ann_file)).file_names]

    def findings(self, dataset: Any, split: str, thorough: bool = False, decode: bool = False) -> Iterator[Finding]:
        """What is wrong with the annotation file, its images, and the classes and masks that the config needs.

        A training refuses an image folder or annotation file that is missing, empty or not COCO; images that are
        absent, or of another size than the file says; classes that are not among the categories; annotations that name
        unknown images or categories, or lack masks that the pipeline loads, or of which none is left to train on. Test
        sets need no annotations.
        """
        return coco_findings(dataset, split, classes_of(dataset), thorough)


def classes_of(dataset: Any) -> list[str]:
    """The classes in a data set's config; the default classes if it has none."""
    classes = (dataset.get("metainfo") or {}).get("classes") or own_classes(dataset)
    return [classes] if isinstance(classes, str) else list(classes)


def own_classes(dataset: Any) -> tuple[str, ...]:
    """The default classes of the data set's class: COCO's, or those of a subclass."""
    return class_of(dataset, "mmdet").METAINFO["classes"]

"""What a detection config leaves open about its data, and how image files are loaded."""

from typing import Any

from mmcv import transforms
from mmdet.registry import TRANSFORMS

from engine.draw import make_palette
from engine.formats import formats_of
from engine.images import OneReader
from engine.num_classes import class_names, set_num_classes
from engine.splits import SPLITS, prepare_splits

SCOPE = "mmdet"


def prepare_config(cfg: Any) -> None:
    """Completes a config in place: data roots, the test set, the evaluators' annotation files, classes, num_classes.

    Classes come, in this order, from ``metainfo`` of a data set, ``cfg.classes``, or the classes of the first data set
    whose files exist. A config whose data is elsewhere or absent keeps its num_classes.

    Raises:
        UserError: an annotation file is there but is not of its format.
    """
    prepare_splits(cfg)
    for split in SPLITS:
        evaluators = cfg.get(f"{split}_evaluator") or []
        for evaluator in evaluators if isinstance(evaluators, list) else [evaluators]:
            for dataset, found in formats_of(cfg, split, SCOPE):
                found.complete_evaluator(dataset, evaluator)

    classes = class_names(cfg.get("classes")) or classes_on_disk(cfg)
    named = None
    for split in SPLITS:
        for dataset, found in formats_of(cfg, split, SCOPE):
            if classes:
                found.set_classes(dataset, tuple(classes), make_palette(len(classes)))
            named = named or (dataset.get("metainfo") or {}).get("classes")
    if named and cfg.get("model") is not None:
        set_num_classes(cfg.model, 1 if isinstance(named, str) else len(named))


def classes_on_disk(cfg: Any) -> tuple[str, ...] | None:
    """The classes of the first data set whose files exist; the validation set is asked first, as it is smaller."""
    for split in ("val", "test", "train"):
        for dataset, found in formats_of(cfg, split, SCOPE):
            classes = found.classes(dataset)
            if classes:
                return classes
    return None


@TRANSFORMS.register_module()
class LoadImageFromFile(OneReader, transforms.LoadImageFromFile):
    """mmcv's, with the pixels that all tasks see and with bad files named."""

"""Completing the data of a detection config, and loading image files."""

from typing import Any

from mmcv import transforms
from mmdet.datasets import DSDLDetDataset, OpenImagesDataset
from mmdet.datasets.transforms import Pad
from mmdet.models import DetDataPreprocessor
from mmdet.registry import MODELS, TRANSFORMS

from backbones import UserError
from backbones.errors import shorten
from detection import masks, named_coco, panoptic  # noqa: F401, which register how data are read
from detection.anchors import check_fit
from detection.image_findings import check_size_of
from detection.own_data import use_own_data
from detection.training_data import use_data_options
from ziggurat.engine.bands import AnyChannels, PadsAnyChannels
from ziggurat.engine.draw import make_palette
from ziggurat.engine.formats import Format, choose_classes, class_of, formats_of, register_format
from ziggurat.engine.images import OneReader
from ziggurat.engine.num_classes import class_names, set_num_classes
from ziggurat.engine.splits import SPLITS, prepare_splits

SCOPE = "mmdet"


def prepare_config(cfg: Any) -> None:
    """Completes a config in place: data roots, the test set, the evaluators' annotation files, classes, num_classes.

    The options of the training data become steps and wrappers of its data set.

    The classes are the first of these that is given: ``cfg.classes``, ``metainfo`` of a data set, the classes in the
    files of the first data set that exists. A config without any of these keeps its num_classes.

    Raises:
        UserError: an annotation file is not of its format, ``cfg.classes`` is no list of names, or ``cfg.data_format``
            or an option of the training data does not fit.
    """
    prepare_splits(cfg)
    use_own_data(cfg)
    use_data_options(cfg)
    if cfg.get("fit_anchors") is not None:
        check_fit(cfg)
    for split in SPLITS:
        evaluators = cfg.get(f"{split}_evaluator") or []
        for evaluator in evaluators if isinstance(evaluators, list) else [evaluators]:
            for dataset, found in formats_of(cfg, split, SCOPE):
                found.complete_evaluator(dataset, evaluator)

    named = class_names(cfg.get("classes"))
    if named:
        choose_classes(cfg, SCOPE, named, make_palette(len(named)))
    else:
        classes = classes_on_disk(cfg)
        for split in SPLITS:
            for dataset, found in formats_of(cfg, split, SCOPE):
                if classes:
                    found.set_classes(dataset, tuple(classes), make_palette(len(classes)))
                named = named or (dataset.get("metainfo") or {}).get("classes")
    if named and cfg.get("model") is not None:
        set_num_classes(cfg.model, 1 if isinstance(named, str) else len(named), number_of_stuff(cfg))


def number_of_stuff(cfg: Any) -> int:
    """How many of a panoptic data set's classes are stuff; 0 for other data."""
    for split in SPLITS:
        for dataset, _ in formats_of(cfg, split, SCOPE):
            return len((dataset.get("metainfo") or {}).get("stuff_classes") or ())
    return 0


def classes_on_disk(cfg: Any) -> tuple[str, ...] | None:
    """The classes of the first data set whose files exist: those of the training, if its files are there."""
    for split in SPLITS:
        for dataset, found in formats_of(cfg, split, SCOPE):
            classes = found.classes(dataset)
            if classes:
                return classes
    return None


@register_format(OpenImagesDataset, DSDLDetDataset)
class FixedClasses(Format):
    """Data sets that read their classes from files of their own while they load. Other names have no effect there."""

    def set_classes(self, dataset: Any, names: tuple[str, ...], palette: Any, replace: bool = False) -> None:
        if replace:
            kind = class_of(dataset, SCOPE).__name__
            raise UserError(
                f"classes=[{shorten(names)}]: {kind} takes its classes from its own files; allowed: classes=None"
            )


@MODELS.register_module()
class DetBandsPreprocessor(AnyChannels, DetDataPreprocessor):
    """mmdet's preprocessor for images of any number of channels."""


@TRANSFORMS.register_module()
class PadBands(PadsAnyChannels, Pad):
    """mmdet's Pad for images of any number of channels."""


@TRANSFORMS.register_module()
class LoadImageFromFile(OneReader, transforms.LoadImageFromFile):
    """mmcv's LoadImageFromFile with our reader: the same pixels in all tasks, and errors that name the file.

    Raises:
        UserError: as ``OneReader``; the image has another size than its annotations say.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        loaded = super().transform(results)
        if loaded is not None and {"width", "height"} <= set(loaded):
            height, width = loaded["ori_shape"]
            said = (loaded["width"], loaded["height"])
            check_size_of(loaded["img_path"], (width, height), said, "its annotations")
        return loaded

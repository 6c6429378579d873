"""Images and masks in parallel folders (ADE20K's layout), and checks before a run starts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mmcv import transforms
from mmseg.datasets import ADE20KDataset, BaseSegDataset
from mmseg.models import SegDataPreProcessor
from mmseg.registry import DATASETS, MODELS, TRANSFORMS

from backbones import UserError
from segmentation.legend import IGNORE, checked_legend
from segmentation.mask_files import check_same_size, read_mask
from segmentation.mask_findings import mask_findings
from segmentation.own_data import use_own_data
from segmentation.pairs import files_of
from ziggurat.engine.bands import AnyChannels, PadsAnyChannels
from ziggurat.engine.draw import make_palette
from ziggurat.engine.findings import Finding
from ziggurat.engine.formats import Format, choose_classes, formats_of, register_format
from ziggurat.engine.images import OneReader
from ziggurat.engine.num_classes import class_names, set_num_classes
from ziggurat.engine.reading import as_dict, reading_in
from ziggurat.engine.splits import SPLITS, datasets_of, prepare_splits

SCOPE = "mmseg"


@DATASETS.register_module()
class MaskFolderDataset(BaseSegDataset):
    """Images, each with a single-channel mask of the same relative name, e.g. ``a/1.jpg`` and ``a/1.png``.

    Args:
        metainfo: ``classes``, and optionally ``palette`` ([r, g, b] per class); ADE20K's 150 classes by default.
        reduce_zero_label: True (ADE20K): mask value 0 is "unlabelled", and 1 is the first class. False: 0 is the first
            class. 255 is "unlabelled" in both.
        legend: which values or colours are which class, as ``segmentation.legend`` describes; then
            ``reduce_zero_label`` does not count.
        ann_file: a text file with a name on each line; only these images are taken.
        img_suffix, seg_map_suffix: the ends of the names that images and masks do not share, such as
            ``_leftImg8bit.png``; by default any suffix.
        pairs: a CSV file of image and mask below ``data_root``, in place of ``data_prefix``.
        **kwargs: as for mmseg's BaseSegDataset. ``data_prefix`` names the folders ``img_path`` and ``seg_map_path``.

    Raises:
        UserError: a folder is missing or empty, an image has no mask, or a line of a file is no image.
    """

    def __init__(
        self,
        metainfo: dict | None = None,
        reduce_zero_label: bool = True,
        legend: dict | None = None,
        img_suffix: str | None = None,
        seg_map_suffix: str | None = None,
        pairs: str | None = None,
        **kwargs,
    ):
        self.legend = None if legend is None else checked_legend(legend)
        self.pairs = pairs
        metainfo = ADE20KDataset.METAINFO if metainfo is None else metainfo
        super().__init__(
            metainfo=metainfo,
            reduce_zero_label=reduce_zero_label,
            img_suffix=img_suffix,
            seg_map_suffix=seg_map_suffix,
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        # The base class has joined these paths with the root.
        own = dict(reading=as_dict(reading_in(self)))
        own |= {key: getattr(self, key) for key in ("data_prefix", "ann_file", "img_suffix", "seg_map_suffix")}
        if self.pairs is not None:
            own |= dict(data_root=self.data_root, pairs=self.pairs)
        common = dict(
            label_map=None,
            reduce_zero_label=self.reduce_zero_label,
            num_classes=len(self.metainfo["classes"]),
            legend=self.legend,
        )
        return [
            dict(common, img_path=str(image), seg_map_path=str(mask), seg_fields=[]) for image, mask in files_of(own)
        ]


@TRANSFORMS.register_module()
class LoadImageFromFile(OneReader, transforms.LoadImageFromFile):
    """mmcv's LoadImageFromFile with our reader: the same pixels in all tasks, and errors that name the file."""


@MODELS.register_module()
class SegBandsPreprocessor(AnyChannels, SegDataPreProcessor):
    """mmseg's preprocessor for images of any number of channels."""


@TRANSFORMS.register_module()
class PadBands(PadsAnyChannels, transforms.Pad):
    """mmcv's Pad for images of any number of channels."""


@TRANSFORMS.register_module()
class LoadMask(transforms.BaseTransform):
    """Adds ``gt_seg_map``, uint8 (H, W): class indices from 0, and 255 for unlabelled pixels. For MaskFolderDataset.

    An image without ``seg_map_path`` passes unchanged: mmseg's inferencers send images alone through this pipeline.

    Raises:
        UserError: see ``read_mask``; also, the mask has another size than its image.
    """

    def transform(self, results: dict) -> dict:
        if "seg_map_path" not in results:
            return results
        how = (results["num_classes"], results["reduce_zero_label"], results.get("legend"))
        mask = read_mask(results["seg_map_path"], *how)
        if "ori_shape" in results:
            check_same_size(results["seg_map_path"], mask, *results["ori_shape"][:2])
        results["gt_seg_map"] = mask
        results["seg_fields"].append("gt_seg_map")
        return results


def prepare_config(cfg: Any) -> None:
    """Completes a config in place: data roots, the test set, classes, palette, reduce_zero_label, num_classes.

    ``cfg.classes`` is a list of names, or the number of classes. The names replace those in ``metainfo`` of the data
    sets. A number keeps the names in ``metainfo`` if there are as many. None means the names in ``metainfo``, or
    ADE20K's.

    Raises:
        UserError: ``classes`` is anything else, or has more than 254 names; values of ``reduce_zero_label`` are not
            bools or contradict each other; ``data_format`` or ``legend`` does not fit the data.
    """
    prepare_splits(cfg)
    use_own_data(cfg, MaskFolderDataset)
    complete_zero_labels(cfg)
    named = chosen_classes(cfg)
    if named:
        choose_classes(cfg, SCOPE, named, make_palette(len(named)))
    num_classes = len(named) if named else None
    for split in SPLITS:
        for dataset, _ in formats_of(cfg, split, SCOPE):
            num_classes = num_classes or len(classes_of(dataset))
    if num_classes and cfg.get("model") is not None:
        set_num_classes(cfg.model, num_classes)


def chosen_classes(cfg: Any) -> tuple[str, ...] | None:
    """The names that ``cfg.classes`` chooses, or None. A number takes the names of a data set that has as many."""
    names = class_names(cfg.get("classes"), most=IGNORE - 1, numbered=True)
    if isinstance(cfg.get("classes"), int):
        for split in SPLITS:
            for dataset in datasets_of(cfg, split):
                given = (dataset.get("metainfo") or {}).get("classes")
                if isinstance(given, list | tuple) and len(given) == len(names):
                    return tuple(given)
    return names


def complete_zero_labels(cfg: Any) -> None:
    """Gives ``cfg.reduce_zero_label``, True by default, to data sets of masks without a value of their own.

    Raises:
        UserError: a value is not a bool, such as the text ``no``. Or a data set has another value than the config, so
            that one of the two would have no effect.
    """
    chosen = cfg.get("reduce_zero_label")
    check_bool("reduce_zero_label", chosen)
    for split in SPLITS:
        for dataset, _ in formats_of(cfg, split, SCOPE):
            name, own = f"{split}_dataloader.dataset.reduce_zero_label", dataset.get("reduce_zero_label")
            check_bool(name, own)
            if own is None:
                dataset.reduce_zero_label = True if chosen is None else chosen
            elif chosen is not None and own != chosen:
                raise UserError(
                    f"{name}={own}, and reduce_zero_label={chosen}; allowed: the same value, or reduce_zero_label=None"
                )


def check_bool(name: str, value: Any) -> None:
    if value not in (None, True, False):
        raise UserError(f"{name}={value!r}; allowed: True, False")


def classes_of(dataset: Any) -> tuple[str, ...]:
    """The class names in a data set's config; ADE20K's if it has none."""
    return (dataset.get("metainfo") or {}).get("classes") or ADE20KDataset.METAINFO["classes"]


def decoding_of(dataset: Any) -> tuple[int, bool, dict | None]:
    """How :func:`read_mask` reads the masks of a data set: the number of classes, reduce_zero_label and the legend."""
    legend = dataset.get("legend")
    known = None if legend is None else checked_legend(legend)
    return len(classes_of(dataset)), dataset.get("reduce_zero_label", True), known


@register_format(MaskFolderDataset)
class MaskFolderFormat(Format):
    """Parallel folders of images and masks. The files have no class names; the config gives them."""

    counts_pixels = True

    def images(self, dataset: Any) -> list[Path]:
        """The images that have a mask."""
        return [image for image, _ in files_of(dataset)]

    def findings(self, dataset: Any, split: str, thorough: bool = False, decode: bool = False) -> Iterator[Finding]:
        """What is wrong with the pairs of images and masks.

        A training refuses a folder that is missing or empty, images without a mask, and masks that are unreadable, have
        another size than their image, hold values outside the classes, or have labels of one class alone. Up to 50
        masks are looked at; with ``decode`` all.
        """
        return mask_findings(dataset, split, classes_of(dataset), decoding_of(dataset), decode)

    def counts(self, dataset: Any) -> list[int]:
        """How many pixels each class has. All masks are read."""
        how = decoding_of(dataset)
        total = np.zeros(IGNORE + 1, np.int64)
        for _, mask in files_of(dataset):
            labels = read_mask(mask, *how)
            total += np.bincount(labels.ravel(), minlength=len(total))
        return total[: how[0]].tolist()

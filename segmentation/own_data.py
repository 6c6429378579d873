"""Masks in the layouts that people have, and outlines of objects, for MaskFolderDataset."""

from collections.abc import Iterator
from typing import Any

from segmentation.legend import checked_legend, class_names
from segmentation.own_masks import check_names, found_masks, legend_of
from ziggurat.engine.draw import make_palette
from ziggurat.engine.findings import UNUSABLE, Finding
from ziggurat.engine.formats import class_of
from ziggurat.engine.own_data import file_for
from ziggurat.engine.own_data.options import check_kind, of_config
from ziggurat.engine.splits import SPLITS, datasets_of

SCOPE = "mmseg"


def use_own_data(cfg: Any, folders: type) -> None:
    """Points the data sets of a config at the masks that ``cfg.data_format`` says, in place.

    ``cfg.legend`` alone, without ``data_format``, goes to the data sets as it is.

    Args:
        cfg: the config.
        folders: the class of data sets that take pairs of files.

    Raises:
        UserError: the data are absent or malformed, or a data set of the config is of another kind.
    """
    if cfg.get("data_format") is None:
        of_config(cfg)  # refuses options that need a data_format
        use_legend(cfg)
        return
    known = known_reading(cfg)
    found = found_masks(cfg, known)
    for split in SPLITS:
        for dataset in datasets_of(cfg, split):
            kind = class_of(dataset, SCOPE)
            is_right = kind is not None and issubclass(kind, folders)
            check_kind(cfg, split, dataset, kind, is_right, folders.__name__)
            dataset.data_root = str(found.root.resolve())
            dataset.data_prefix = dict(img_path="", seg_map_path="")
            dataset.pairs = str(file_for(found.files, split))
            dataset.reduce_zero_label = found.reduce_zero_label
            dataset.legend = found.legend
            if cfg.get("classes") is None and known is None:
                dataset.metainfo = named(found.names)
    cfg.reduce_zero_label = found.reduce_zero_label


def known_reading(cfg: Any) -> tuple[list[str], bool, dict[str, Any] | None] | None:
    """The classes, reduce_zero_label and legend of a config that was completed before, such as that of a checkpoint.

    They stay, also for other data, since the model learned them. None for a new config, or with other options.
    """
    if cfg.get("classes") is not None or cfg.get("legend") is not None:
        return None
    for split in SPLITS:
        for dataset in datasets_of(cfg, split):
            classes = (dataset.get("metainfo") or {}).get("classes")
            if dataset.get("pairs") and classes:
                legend = dataset.get("legend")
                reduced = bool(dataset.get("reduce_zero_label"))
                return list(classes), reduced, None if legend is None else checked_legend(legend)
    return None


def use_legend(cfg: Any) -> None:
    """Gives ``cfg.legend`` and its classes to the data sets, in place."""
    legend = legend_of(cfg)
    if legend is None:
        return
    check_names(cfg, class_names(legend))
    for split in SPLITS:
        for dataset in datasets_of(cfg, split):
            dataset.legend = legend
            if cfg.get("classes") is None:
                dataset.metainfo = named(class_names(legend))


def named(names: list[str]) -> dict[str, Any]:
    return dict(classes=tuple(names), palette=make_palette(len(names)))


def apart(cfg: Any, split: str) -> Iterator[Finding]:
    """Whether a training is validated on its own images, since the data have no others."""
    if cfg.get("data_format") is None or split != "train":
        return
    files = [{dataset.get("pairs") for dataset in datasets_of(cfg, name)} for name in ("train", "val")]
    if files[0] & files[1]:
        text = (
            f"{cfg.data_root}: all images are of one set; allowed: val_share=0.2 to take a share of them for "
            "validation, or folders named train and val"
        )
        yield Finding("validation-absent", UNUSABLE, text)

"""Boxes and masks in the formats that people have, for mmdet's CocoDataset."""

from collections.abc import Iterator
from typing import Any

from mmdet.datasets import CocoDataset

from ziggurat.engine.findings import NOTE, UNUSABLE, WARNING, Finding
from ziggurat.engine.formats import class_of
from ziggurat.engine.own_data import file_for, of_config
from ziggurat.engine.own_data.content import line_of
from ziggurat.engine.own_data.options import check_kind
from ziggurat.engine.splits import SPLITS, datasets_of

SCOPE = "mmdet"


def use_own_data(cfg: Any) -> None:
    """Points the data sets of a config at the data that ``cfg.data_format`` says, in place.

    Each data set gets the COCO json of its split in the cache, and images below ``cfg.data_root``. Without images of a
    split, those of the nearest split serve; :func:`own_findings` finds fault with a training then.

    Raises:
        UserError: the data cannot be read, or a data set of the config is of another kind than CocoDataset.
    """
    own = of_config(cfg)
    if own is None:
        return
    for split in SPLITS:
        file = file_for(own.files, split)
        for dataset in datasets_of(cfg, split):
            kind = class_of(dataset, SCOPE)
            allowed = "CocoDataset, as in configs of boxes and masks"
            check_kind(cfg, split, dataset, kind, kind is CocoDataset, allowed)
            dataset.data_root = str(own.root.resolve())
            dataset.ann_file = str(file)
            dataset.data_prefix = dict(img="")
        evaluators = cfg.get(f"{split}_evaluator") or []
        for evaluator in evaluators if isinstance(evaluators, list) else [evaluators]:
            if str(evaluator.get("type")).endswith("CocoMetric"):
                evaluator.ann_file = str(file)


def own_findings(cfg: Any, split: str) -> Iterator[Finding]:
    """What reading the data completed or left out, and whether a training is validated on other images."""
    own = of_config(cfg) if split == "train" else None
    if own is None:
        return
    for note in own.notes:
        yield Finding(
            "reading", NOTE, f"{own.root}: {line_of(note)}", count=note["count"], examples=tuple(note["first"])
        )
    if file_for(own.files, "train") == file_for(own.files, "val"):
        yield Finding(
            "validation-absent",
            UNUSABLE,
            f"{own.root}: all images are of one set, '{next(iter(own.files))}'; allowed: val_share=0.2 to take a share "
            "of them for validation, or folders or files named train and val",
        )
    elif "val" not in own.files:
        text = f"{own.root}: there are no validation images; the test images are validated on"
        yield Finding("validation-is-test", WARNING, text, "val_share=0.2 takes a share of the training images")

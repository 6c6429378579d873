"""Completing the data of a config: the format of its data sets, their roots and classes, the number of classes."""

from typing import Any

from backbones.checks import MIN_SIZE, check_int
from backbones.errors import unknown
from classification.data.checks import SCOPE
from classification.data.images import SplitImages
from classification.data.own_data import use_own_data
from ziggurat.engine.formats import choose_classes, class_of, formats_of
from ziggurat.engine.num_classes import class_names, set_num_classes
from ziggurat.engine.own_data import AUTO, READERS
from ziggurat.engine.splits import SPLITS, datasets_of, prepare_splits

KINDS = {  # the values of a config's data_format
    "folders": "ImageFolder",
    "ilsvrc": "IlsvrcImages",
    "csv": "CsvImages",
    "cifar": "CifarImages",
    "shards": "ShardImages",
    "hub": "HubImages",
}


def prepare_config(cfg: Any) -> None:
    """Completes a config in place: data roots, the test set, the data sets' format, classes, num_classes.

    The classes are those of the training set. ``cfg.classes``, a list of names, sets their order and leaves out the
    other classes, also if a data set names classes of its own. A config keeps its num_classes if the data are absent.

    Raises:
        UserError: ``cfg.classes`` is no list of names, ``cfg.data_format`` is unknown, or the data are malformed.
    """
    prepare_splits(cfg)
    own = use_own_data(cfg)
    if own is None:
        choose_format(cfg)
    if cfg.get("input_size") is not None:
        set_input_size(cfg, cfg.input_size)
    datasets = [pair for split in SPLITS for pair in formats_of(cfg, split, SCOPE)]
    on_disk = (found.classes(dataset) for dataset, found in datasets)
    chosen = class_names(cfg.get("classes"))
    classes = chosen or own or next((classes for classes in on_disk if classes), None)
    if chosen:
        choose_classes(cfg, SCOPE, chosen, [])
    elif classes:
        for dataset, found in datasets:
            found.set_classes(dataset, tuple(classes), [])
    if classes and cfg.get("model") is not None:
        set_num_classes(cfg.model, len(classes))


def choose_format(cfg: Any) -> None:
    """Gives the data sets of a config the type that ``cfg.data_format`` names. None leaves their types."""
    name = cfg.get("data_format")
    if name is None:
        return
    if name not in KINDS:
        raise unknown("data_format", name, [AUTO, *KINDS, *READERS])
    for split in SPLITS:
        for dataset in datasets_of(cfg, split):
            kind = class_of(dataset, SCOPE)
            if kind is not None and issubclass(kind, SplitImages):
                dataset.type = KINDS[name]


def set_input_size(cfg: Any, size: Any) -> None:
    """Sets the crop of every transform, in pixels. Raises UserError unless ``size`` is an integer from 32 up."""
    check_int("input_size", size, MIN_SIZE, None)
    for split in SPLITS:
        for dataset in datasets_of(cfg, split):
            if dataset.get("transform") is not None:
                dataset.transform.input_size = size

"""The images that features are computed from: a train and a val split with the same classes and one transform."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch.utils.data import Dataset

from backbones.errors import UserError, shorten
from classification.data import class_folders
from classification.task import TASK
from ziggurat.engine.cli import CONFIG_SUFFIXES
from ziggurat.engine.config import load_config
from ziggurat.engine.splits import datasets_of, under_root
from ziggurat.engine.tasks import task_of

# A loader of a config -> the name of its split here. The names are also the folders of ImageNet's layout.
NAMES = {"train": "train", "test": "val"}


def read_config(data: str | Path, cfg_options: Sequence[str] = ()) -> Config:
    """The config of the two splits: a config that is given, or one for a folder in ImageNet's layout.

    Args:
        data: a config of classification, or a folder that holds ``train/CLASS/`` and ``val/CLASS/``.
        cfg_options: changes of the config, ``["data_root=/data/imagenet"]``. A folder takes none.

    Raises:
        UserError: the config cannot be used, or a folder is missing, or train and val have other class folders.
    """
    if Path(data).suffix in CONFIG_SUFFIXES:
        cfg = load_config(data, list(cfg_options))
        if task_of(cfg) != TASK.name:
            raise UserError(f"config {data} is one of {task_of(cfg)}; allowed: a config of {TASK.name}, or a folder")
        for loader in NAMES:
            if cfg.get(f"{loader}_dataloader") is None:
                raise UserError(
                    f"config {data} has no {loader}_dataloader; allowed: a config with data to train and test"
                )
        return cfg
    if cfg_options:
        raise UserError(f"--cfg-options {' '.join(cfg_options)}: {data} is no config; allowed: a config, or no options")
    train, val = (class_folders(Path(data) / folder) for folder in NAMES.values())
    check_classes(train, val, str(data))
    loaders = {
        f"{loader}_dataloader": dict(dataset=dict(type="ImageFolder", data_root=str(data), folder=folder))
        for loader, folder in NAMES.items()
    }
    cfg = Config(loaders)
    TASK.complete(cfg)
    return cfg


def check_classes(train: Sequence[str], val: Sequence[str], data: str) -> None:
    """Raises UserError unless train and val have the same classes in the same order, two or more."""
    if list(train) != list(val):
        lines = [f"{data}: train has {len(train)} classes and val has {len(val)}"]
        for name, only in (("train", set(train) - set(val)), ("val", set(val) - set(train))):
            if only:
                lines.append(f"only {name} has {shorten(sorted(only))}")
        raise UserError("; ".join([*lines, "allowed: the same classes in both, in the same order"]))
    if len(train) < 2:
        raise UserError(f"{data} has {len(train)} class: {shorten(train)}; allowed: 2 classes or more")


def test_transform(cfg: Config) -> dict[str, Any]:
    """The transform of the config's test set, arguments of timm's ``create_transform``; empty if there is none."""
    return dict(next(datasets_of(cfg, "test")).get("transform") or {})


def build_splits(cfg: Config, transform: dict[str, Any], data: str) -> dict[str, Dataset]:
    """The data sets ``{"train": ..., "val": ...}``, both with ``transform`` and in the order of their files.

    Args:
        cfg: of :func:`read_config`. It is changed.
        transform: arguments of timm's ``create_transform``.
        data: a name for messages.

    Raises:
        UserError: a folder is missing or empty, or train and val have other classes, or a class has no images.
    """
    TASK.check_data(cfg, tuple(NAMES))
    for loader in NAMES:
        for dataset in datasets_of(cfg, loader):
            dataset.transform = transform
            dataset.pop("in_memory", None)  # every image is read once
            dataset.pop("max_unreadable", None)  # training may show another image in place of an unreadable one
    splits = {NAMES[loader]: TASK.build_dataset(cfg, loader) for loader in NAMES}
    train, val = (list(dataset.metainfo["classes"]) for dataset in splits.values())
    check_classes(train, val, data)
    for name, dataset in splits.items():
        missing = set(range(len(train))) - {label for _, label in getattr(dataset, "samples", ())}
        if missing and hasattr(dataset, "samples"):
            names = [train[index] for index in sorted(missing)]
            raise UserError(
                f"{data}: {name} has no images for {len(names)} of {len(train)} classes: {shorten(names)}; "
                "allowed: images of every class in train and in val"
            )
    return splits


def describe_splits(cfg: Config, splits: dict[str, Dataset]) -> dict[str, dict[str, Any]]:
    """For each split the number of images, and the SHA-256 of the list of its files: path, size in bytes and label.

    Paths are those below the data set's folder, so a copy of the data elsewhere has the same SHA-256. A data set
    without ``samples`` is known by its config alone.
    """
    described = {}
    for loader, name in NAMES.items():
        dataset, digest = splits[name], hashlib.sha256()
        config = next(datasets_of(cfg, loader))
        if hasattr(dataset, "samples"):
            root = under_root(config, config.get("folder", ""))
            for path, label in dataset.samples:
                # An image in an archive has a name only.
                size = os.path.getsize(path) if os.path.isfile(path) else None
                digest.update(os.fsencode(f"{path.removeprefix(f'{root}{os.sep}')}\t{size}\t{label}\n"))
        else:
            digest.update(repr(sorted(config.items())).encode())
        described[name] = {"images": len(dataset), "sha256": digest.hexdigest()}
    return described

"""The loaders and data sets of a config for training, validation and testing, and their completion."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SPLITS = ("train", "val", "test")


def prepare_splits(cfg: Any) -> None:
    """Gives a config without a test set its validation set, and data sets without a root ``cfg.data_root``."""
    for part in ("dataloader", "evaluator", "cfg"):
        val, test = cfg.get(f"val_{part}"), cfg.get(f"test_{part}")
        if val is not None and is_partial(test):
            cfg[f"test_{part}"] = merged(test or {}, copy.deepcopy(val))
            if part == "cfg":
                cfg.test_cfg.type = "TestLoop"
    if cfg.get("data_root") is not None:
        for split in SPLITS:
            for dataset in datasets_of(cfg, split):
                if dataset.get("data_root") is None:
                    dataset.data_root = cfg.data_root


def is_partial(config: Any) -> bool:
    """Whether the user gave no test loader, evaluator or loop, or only overrides: ``test_dataloader.batch_size=1``."""
    return config is None or (isinstance(config, dict) and "type" not in config.get("dataset", config))


def merged(options: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Changes ``config`` in place by nested ``options``, and returns it."""
    for key, value in options.items():
        both = isinstance(value, dict) and isinstance(config.get(key), dict)
        config[key] = merged(value, config[key]) if both else value
    return config


def datasets_of(cfg: Any, split: str) -> Iterator[Any]:
    """The data sets (ConfigDict) of a split, "train", "val" or "test", without wrappers such as RepeatDataset."""
    loader = cfg.get(f"{split}_dataloader")
    queue = [loader.dataset] if loader is not None else []
    while queue:
        dataset = queue.pop(0)
        inner = dataset.get("datasets") or [dataset.get("dataset")]
        if inner == [None]:
            yield dataset
        else:
            queue += inner


def under_root(dataset: Any, path: str) -> Path:
    """A path of a data set. A relative path lies in the data set's ``data_root``, as in mmengine."""
    return Path(dataset.get("data_root") or "") / path


def complete_loaders(cfg: Any) -> None:
    """Completes loaders and pipelines, in place.

    - With ``num_workers=0``, ``persistent_workers`` and ``prefetch_factor``, which need workers, are switched off.
    - Pipelines are copied to ``train_pipeline`` and ``test_pipeline``, where mm's inferencers look for them.
    """
    for split in SPLITS:
        loader = cfg.get(f"{split}_dataloader")
        if loader and not loader.get("num_workers", 0):
            if loader.get("persistent_workers"):
                loader.persistent_workers = False
            loader.pop("prefetch_factor", None)
    for split in ("train", "test"):
        pipeline = next((dataset.pipeline for dataset in datasets_of(cfg, split) if dataset.get("pipeline")), None)
        if pipeline is not None:
            cfg[f"{split}_pipeline"] = copy.deepcopy(pipeline)

"""The loaders and data sets of a config for training, validation and testing, and how they are completed."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SPLITS = ("train", "val", "test")


def prepare_splits(cfg: Any) -> None:
    """Testing uses the validation set where no test set is named; data sets without a root take ``cfg.data_root``."""
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
    """Whether a test loader, evaluator or loop is absent, or only options like ``test_dataloader.batch_size=1``."""
    return config is None or (isinstance(config, dict) and "type" not in config.get("dataset", config))


def merged(options: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """``config`` changed, in place, by nested ``options``."""
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
    """A path of a data set as mmengine resolves it: relative ones lie in ``data_root``."""
    return Path(dataset.get("data_root") or "") / path


def complete_loaders(cfg: Any) -> None:
    """Settles loader options that exclude each other, and names the pipelines as mm's inferencers look for them.

    Without worker processes none can be kept alive: ``num_workers=0`` alone is enough.
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

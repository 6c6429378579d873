"""The loaders and data sets of a config for training, validation and testing, and their completion."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from backbones.errors import UserError

SPLITS = ("train", "val", "test")


def prepare_splits(cfg: Any) -> None:
    """Gives a config without a test set its validation set, and data sets without a root ``cfg.data_root``.

    Raises:
        UserError: a loader, data set, evaluator or loop is not a dict, or a loader has no data set.
    """
    for part in ("dataloader", "evaluator", "cfg"):
        for split in SPLITS:
            check_part(f"{split}_{part}", cfg.get(f"{split}_{part}"))
        val, test = cfg.get(f"val_{part}"), cfg.get(f"test_{part}")
        if val is not None and is_partial(test):
            cfg[f"test_{part}"] = merged(test or {}, copy.deepcopy(val))
            if part == "cfg":
                cfg.test_cfg.type = "TestLoop"
    for split in SPLITS:
        for dataset in datasets_of(cfg, split):
            check_part(f"{split}_dataloader.dataset.metainfo", dataset.get("metainfo"))
            if cfg.get("data_root") is not None and dataset.get("data_root") is None:
                dataset.data_root = cfg.data_root


def check_part(name: str, value: Any) -> None:
    """Raises UserError for a part of a config that is neither a dict nor None. Evaluators may also be in a list."""
    for one in value if name.endswith("evaluator") and isinstance(value, list | tuple) else [value]:
        if one is not None and not isinstance(one, dict):
            raise UserError(f"{name}={value!r}; allowed: dict(...), or None")


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
    """The data sets (ConfigDict) of a split, "train", "val" or "test", without wrappers such as RepeatDataset.

    Raises:
        UserError: a data set is not a dict.
    """
    loader = cfg.get(f"{split}_dataloader")
    queue = [(f"{split}_dataloader.dataset", loader.get("dataset"))] if loader is not None else []
    while queue:
        name, dataset = queue.pop(0)
        if not isinstance(dataset, dict):
            raise UserError(f"{name}={dataset!r}; allowed: dict(type=..., ...)")
        several, one = dataset.get("datasets"), dataset.get("dataset")
        if several and not isinstance(several, list | tuple):
            raise UserError(f"{name}.datasets={several!r}; allowed: a list of dict(type=..., ...)")
        if several:
            queue += [(f"{name}.datasets.{i}", inner) for i, inner in enumerate(several)]
        elif one is not None:
            queue.append((f"{name}.dataset", one))
        else:
            yield dataset


def under_root(dataset: Any, path: str) -> Path:
    """A path of a data set. A relative path lies in the data set's ``data_root``, as in mmengine.

    Raises:
        UserError: one of the two is no text.
    """
    root = dataset.get("data_root") or ""
    for given in (root, path):
        if not isinstance(given, str | Path):
            raise UserError(f"{dataset.get('type')}: a path is {given!r}; allowed: a text")
    return Path(root) / path


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

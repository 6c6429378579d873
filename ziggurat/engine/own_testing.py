"""Testing with the config that a checkpoint carries: its data, metrics and preprocessing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from backbones.errors import UserError
from backbones.weights import read_ahead, read_own_meta
from ziggurat.engine.arguments import names_of
from ziggurat.engine.complete import complete
from ziggurat.engine.config import apply_options
from ziggurat.engine.num_classes import set_num_classes
from ziggurat.engine.own_config import config_from, naming, part
from ziggurat.engine.own_data import OPTIONS
from ziggurat.engine.places import place_of
from ziggurat.engine.registered import check_type, only_registered
from ziggurat.engine.tasks import task_for

PATHS = (  # to read from
    "data_root",
    "ann_file",
    "data_prefix",
    "folder",
    "img_suffix",
    "labels",
    "pairs",
    "seg_map_suffix",
    "seg_prefix",
)
WRITES = (
    "outfile_prefix",
    "format_only",
    "output_dir",
    "report",
)  # metrics that write files keep to the report's folder


def own_testing_config(checkpoint: str | Path, options: dict[str, Any]) -> tuple[Config, list[str] | None] | None:
    """The config that tests a checkpoint of this project, as the checkpoint carries it.

    The config may name data to read. Otherwise the rules of ``ziggurat.engine.own_config`` hold: registered types only,
    no code, no other module. Nothing else of the training is kept.

    Args:
        checkpoint: the file.
        options: changes of the config, ``{"data_root": "/data/coco"}``.

    Returns:
        The completed config, and the class names of the checkpoint; None for a file that carries no config.

    Raises:
        UserError: the file cannot be read, the config cannot be used, or an option is bad.
    """
    source = str(checkpoint)
    content = read_ahead(checkpoint)
    own = read_own_meta(content) or {}
    if not isinstance(own.get("config"), Mapping):
        return None
    cfg = config_from(own["config"], source)
    with naming(source):
        cfg.merge_from_dict(testing_parts(own["config"]))
    for key in options:
        if key.split(".")[0].startswith(("train_", "val_")) and key not in OPTIONS:
            raise UserError(f"option {key} changes nothing in a test; allowed: the same with test_ in front")
    apply_options(cfg, options, Path(source))
    hook = task_for(cfg).images_hook
    if hook is not None:
        cfg.default_hooks = {"images": {"type": hook}}
    cfg.work_dir = cfg.get("work_dir") or str(Path("work_dirs/test") / place_of(source))
    names = names_of(content, own, source)
    with naming(source):
        complete(cfg, options)
        if names:
            set_num_classes(cfg.model, len(names))  # completing the config has counted the classes of the data
    return cfg, None if names is None else [str(name) for name in names]


def testing_parts(config: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a config that testing needs beside the model: its data, their format, and its metrics.

    Raises:
        UserError: a part is missing, of another kind, or of a type that is not registered.
    """
    dataset = part(part(config, "test_dataloader"), "dataset", "test_dataloader.")
    place = "test_dataloader.dataset"
    kept = {
        key: paths_of(value, f"{place}.{key}") if key in PATHS else only_registered(value, f"{place}.{key}")
        for key, value in dataset.items()
        if key not in ("type", "classes", "metainfo", "pipeline", "transform")  # config_from has read these
    }
    metrics = config.get("test_evaluator")
    metrics = metrics if isinstance(metrics, list | tuple) else [metrics]
    parts = {
        "test_dataloader": ConfigDict(dataset=kept, sampler=dict(type="DefaultSampler", shuffle=False)),
        "test_evaluator": [metric_of(metric, f"test_evaluator[{i}]") for i, metric in enumerate(metrics)],
        "test_cfg": dict(type="TestLoop"),
    }
    if config.get("data_root") is not None:
        parts["data_root"] = paths_of(config["data_root"], "data_root")
    for name in ("data_format", *OPTIONS):
        value = config.get(name)
        if value is not None and name != "data_cache":  # a file is written there
            parts[name] = paths_of(value, name) if isinstance(value, str | Mapping) else only_registered(value, name)
    return parts


def metric_of(metric: Any, place: str) -> dict[str, Any]:
    if not isinstance(metric, Mapping):
        raise UserError(f"{place} is {metric!r}; allowed: a dict with type")
    check_type(metric.get("type"), f"{place}.type")
    read = {key: paths_of(metric[key], f"{place}.{key}") for key in PATHS if key in metric}
    rest = {key: value for key, value in metric.items() if key not in (*PATHS, *WRITES)}
    return {**only_registered(rest, place), **read}


def paths_of(value: Any, place: str) -> Any:
    """A path, or a dict of paths; UserError for anything else."""
    if isinstance(value, Mapping):
        return {str(key): paths_of(one, f"{place}.{key}") for key, one in value.items()}
    if value is not None and (not isinstance(value, str) or "://" in value):
        raise UserError(f"{place} is {value!r}; allowed: a path")
    return value

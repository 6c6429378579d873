"""The kinds of a config's parts: which are dicts, lists of dicts, texts. Checked before anything reads them."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

from backbones.errors import UserError, shown
from backbones.files import is_path
from ziggurat.engine.splits import SPLITS

DICT, DICTS, TEXT, TEXTS, FLAG = "dict(...)", "a list of dict(...)", "a text", "a list of texts", "True, False"
PATH = "the name of a file or folder"
PART = "dict(type=..., ...)"  # what a registry builds
LOADER = {
    "": DICT,
    "dataset": PART,
    "sampler": PART,
    "batch_sampler": PART,
    "collate_fn": PART,
    "dataset.pipeline": DICTS,
    "dataset.data_prefix": DICT,
    "dataset.filter_cfg": DICT,
    "dataset.metainfo": DICT,
    "dataset.metainfo.classes": TEXTS,
    "dataset.data_prefix.*": PATH,
    "dataset.ann_file": PATH,
    "dataset.data_root": PATH,
    "dataset.folder": PATH,
}
# The dotted name of a part -> what it is, where it is given and not None. A * stands for every key.
KINDS: dict[str, str] = {
    f"{split}_dataloader{name and '.'}{name}": kind for split in SPLITS for name, kind in LOADER.items()
}
KINDS |= {f"{split}_cfg": DICT for split in SPLITS}
KINDS |= dict.fromkeys(("optim_wrapper", "randomness", "auto_scale_lr", "env_cfg", "log_processor"), DICT)
KINDS |= dict.fromkeys(("default_hooks", "env_cfg.mp_cfg", "env_cfg.dist_cfg", "custom_imports"), DICT)
KINDS |= dict.fromkeys(("model", "visualizer", "tta_model", "default_hooks.*", "model.backbone"), PART)
KINDS |= dict.fromkeys(("optim_wrapper.optimizer", "model.data_preprocessor"), PART)
KINDS |= dict.fromkeys(("optim_wrapper.paramwise_cfg", "optim_wrapper.clip_grad"), DICT)
KINDS |= dict.fromkeys(("custom_hooks", "visualizer.vis_backends", "train_pipeline", "test_pipeline"), DICTS)
KINDS |= dict.fromkeys(("experiment_name", "default_scope"), TEXT)
KINDS |= dict.fromkeys(("work_dir", "load_from", "data_root"), PATH)
KINDS |= {"auto_scale_lr.enable": FLAG, "custom_imports.imports": TEXTS, "data_format": TEXT}
KINDS |= {"data_cache": PATH, "data_files": DICT, "val_group": TEXT}
SCHEDULES = "dict(type=..., ...), or a list of these"


def check_kinds(cfg: Config) -> None:
    """Raises UserError for a part of another kind than ``KINDS`` says. The message has the part's dotted name."""
    parts = dict(cfg.items())
    for name, kind in KINDS.items():
        for where, value in found(parts, name.split(".")):
            if value is not None and not is_kind(value, kind):
                raise UserError(f"{where} is {shown(value)}; allowed: {kind}, None")
    schedules = cfg.get("param_scheduler")
    for one in schedules if isinstance(schedules, list | tuple) else [schedules]:
        if one is not None and not isinstance(one, Mapping):
            raise UserError(f"param_scheduler is {shown(schedules)}; allowed: {SCHEDULES}, None")


def found(part: Any, keys: list[str], above: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted name and the value of every part that the keys lead to. A part that is no dict leads nowhere."""
    if not keys:
        yield above, part
        return
    for key in (list(part) if keys[0] == "*" else [keys[0]]) if isinstance(part, Mapping) else ():
        if key in part:
            yield from found(part[key], keys[1:], f"{above}.{key}" if above else str(key))


def is_kind(value: Any, kind: str) -> bool:
    if kind == DICTS:
        return isinstance(value, list | tuple) and all(isinstance(one, Mapping) for one in value)
    if kind == PATH:
        return isinstance(value, str) and is_path(value)
    if kind == TEXTS:  # mmengine takes one text, too
        return all(isinstance(one, str) for one in value) if isinstance(value, list | tuple) else isinstance(value, str)
    return isinstance(value, {TEXT: str, FLAG: bool}.get(kind, Mapping))


def kind_of(step: dict[str, Any]) -> str:
    """The class name in the config of a part that has a ``type``, without its scope."""
    return str(step["type"] if isinstance(step["type"], str) else step["type"].__name__).split(".")[-1]

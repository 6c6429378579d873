"""A config of mmdet or mmseg with one of our networks in it, written as a user would write it, and completed."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from choose import config_folder
from mmengine.config import Config, ConfigDict
from unlike import unlike

from backbones import create_backbone
from ziggurat.engine.config import load_config

TASKS = {"mmdet": "detection", "mmseg": "segmentation"}
ONE_SCALE = ("VisionTransformer", "BEiT", "MAE")  # networks whose maps have one width and one stride
SIZE = 128  # pixels of an image's sides
REGIONS = {"max_per_img": 50, "num": 64}  # at most, of an image; a step with thousands of regions takes many seconds


def swapped(name: str) -> tuple[Config, dict[str, Any]]:
    """The completed config, and what its row of ``unlike.py`` says.

    Args:
        name: such as ``"mmdet::atss/atss_r50_fpn_1x_coco.py"``.

    Raises:
        UserError: the config does not take the network.
    """
    library, _, path = name.partition("::")
    theirs = Config.fromfile(config_folder(library) / path, import_custom_modules=False)
    special = unlike(name)
    changes = cheaper(library, theirs.model, special)
    changes = {key: value for key, value in changes.items() if not key.startswith(("backbone.", "detector.backbone."))}
    changes |= replace_backbone(theirs.model, special)
    changes |= special.get("model", {})
    content = dict(_base_=str(config_folder(library) / path), custom_imports=dict(imports=[TASKS[library]]))
    with tempfile.TemporaryDirectory() as folder:
        child = Path(folder) / "child.py"
        child.write_text("".join(f"{key} = {value!r}\n" for key, value in content.items()))
        options = {f"model.{key}": value for key, value in changes.items()} | special.get("config", {})
        return load_config(child, options), special


def unchanged(name: str) -> tuple[Config, dict[str, Any]]:
    """The config with its own network, without weights, and what its row of ``unlike.py`` says."""
    library, _, path = name.partition("::")
    cfg = Config.fromfile(config_folder(library) / path, import_custom_modules=False)
    special = unlike(name)
    changes = cheaper(library, cfg.model, special)
    cfg.merge_from_dict({f"model.{key}": value for key, value in changes.items()})
    cfg.custom_imports = dict(imports=[TASKS[library]])
    return cfg, special


def cheaper(library: str, model: ConfigDict, special: dict[str, Any]) -> dict[str, Any]:
    """Changes that have nothing to do with the network: small images, few regions, no download."""
    changes: dict[str, Any] = dict(fewer_regions(model, ""))
    if library == "mmseg" and "size_divisor" not in model.data_preprocessor:
        changes["data_preprocessor.size"] = (special.get("size", SIZE),) * 2  # that of the crops
    if "batch_augments" in model.data_preprocessor:  # which make images large
        changes["data_preprocessor.batch_augments"] = None
    changes |= dict.fromkeys(downloads(model), None)
    return changes | special.get("trial", {})


def replace_backbone(model: ConfigDict, special: dict[str, Any]) -> dict[str, Any]:
    """The keys of a model's config that a user changes to have our network, with their values."""
    prefix, owner = ("detector.", model.detector) if "detector" in model else ("", model)
    maps = maps_of(owner, special)
    with torch.device("meta"):
        widths = [info.channels for info in create_backbone(**maps).feature_info]
    one_scale = "out_blocks" in maps  # of one scale the word would make several
    changes = {"backbone": dict(_delete_=True, type="Backbone", **maps)}
    neck = owner.get("neck")
    if neck:
        first, key = (neck[0], "neck.0") if isinstance(neck, list) else (neck, "neck")
        if "in_channels" in first:
            changes[f"{key}.in_channels"] = widths if one_scale else "backbone"
    else:
        for key, head in heads_of(owner):
            changes[f"{key}.in_channels"] = typed(head, widths) if one_scale else "backbone"
            if "c1_in_channels" in head:  # DeepLabV3+ also takes the finest map
                changes[f"{key}.c1_in_channels"] = "backbone"
    return {prefix + key: value for key, value in changes.items()}


def maps_of(owner: ConfigDict, special: dict[str, Any]) -> dict[str, Any]:
    """The arguments of our network: it has as many maps as theirs, of the same strides."""
    theirs = owner.backbone
    kind = theirs.type.rpartition(".")[2]
    given = theirs.get("out_indices", (0, 1, 2, 3))
    neck = owner.get("neck") or {}
    channels = (neck[0] if isinstance(neck, list) else neck).get("in_channels")
    count = len(channels if isinstance(channels, list | tuple) else [given] if isinstance(given, int) else given)
    if kind in ONE_SCALE:
        count = count if "out_indices" in theirs else 1
        return dict(arch="vig_tiny", out_blocks=(2, 5, 8, 11)[-count:]) | special.get("backbone", {})
    small = isinstance(given, list | tuple) and max(given) < 4 and len(given) == count
    stride = 4
    for step in theirs.get("strides", (1, 2, 2, 2))[:4]:
        stride *= step
    arguments: dict[str, Any] = dict(arch="van_b0", out_indices=tuple(given) if small else tuple(range(4))[-count:])
    if "dilations" in theirs and stride in (8, 16):
        arguments["output_stride"] = stride
    return arguments | special.get("backbone", {})


def heads_of(owner: ConfigDict) -> list[tuple[str, ConfigDict]]:
    """The heads that take the network's maps themselves, each with its key."""
    found = []
    for key, part in owner.items():
        if key.endswith("head"):
            parts = [(f"{key}.{i}", one) for i, one in enumerate(part)] if isinstance(part, list) else [(key, part)]
            parts += [(f"{name}.kernel_generate_head", one.get("kernel_generate_head")) for name, one in parts]
            found += [(name, one) for name, one in parts if isinstance(one, dict) and "in_channels" in one]
    return found


def typed(head: ConfigDict, widths: list[int]) -> Any:
    """The channels of the maps that a segmenter's head takes by its ``in_index``."""
    index = head.get("in_index", -1)
    return widths[index] if isinstance(index, int) else [widths[i] for i in index]


def downloads(part: Any, name: str = "") -> Iterator[str]:
    """The keys of a model that name weights to fetch."""
    for key, value in part.items() if isinstance(part, dict) else enumerate(part):
        inside = f"{name}.{key}" if name else str(key)
        fetched = key == "init_cfg" and isinstance(value, dict) and value.get("type") == "Pretrained"
        if fetched or inside == "pretrained":
            yield inside
        elif isinstance(value, dict | list | tuple):
            yield from downloads(value, inside)


def fewer_regions(part: Any, name: str) -> Iterator[tuple[str, int]]:
    """The keys of a model's training and testing that let many regions pass, with fewer."""
    for key, value in part.items() if isinstance(part, dict) else enumerate(part):
        inside = f"{name}.{key}" if name else str(key)
        if isinstance(value, dict | list | tuple):
            yield from fewer_regions(value, inside)
        elif key in REGIONS and isinstance(value, int) and value > REGIONS[key] and "_cfg" in name:
            yield inside, REGIONS[key]

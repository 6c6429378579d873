"""Completing a config: words in it are replaced by values that follow from its network and its data.

- ``in_channels="backbone"`` of a neck or head becomes the channels of the maps that reach it.
- ``mean="weights"`` and ``std="weights"`` become the statistics of the loaded weights.
- ``pretrained=True`` becomes the name of the arch's first weights.
- Schedules and averages that count optimiser steps learn how many batches a step accumulates.
- The rule ``reading`` goes to every loading step and data set.
- Options of one word, such as ``class_weight`` and ``ema``, become the parts of the config that carry them out.

A typed number stays. A run whose config was not completed fails, since no module takes a word. The completed config
holds plain values, so mm's own tools can run it with its ``custom_imports``.
"""

from collections.abc import Container, Iterator
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS

from backbones.errors import UserError, arguments_of
from backbones.pyramid import PyramidBackbone
from backbones.registry import FAMILIES, family_of, list_archs
from backbones.weights import WEIGHTS as TABLE
from backbones.weights import Statistics, statistics
from backbones.weights.table import first_name
from ziggurat.engine.auto_batch import use_batch_option
from ziggurat.engine.bands import use_channels
from ziggurat.engine.channels import BACKBONE, complete_channels
from ziggurat.engine.class_weights import use_class_weights
from ziggurat.engine.early_stopping import use_early_stopping
from ziggurat.engine.freezing import use_frozen_stages
from ziggurat.engine.loss_option import use_loss
from ziggurat.engine.mistakes import type_hint
from ziggurat.engine.parts import check_kinds
from ziggurat.engine.rates import follow_accumulation
from ziggurat.engine.reading import use_reading
from ziggurat.engine.register import build_any
from ziggurat.engine.repeated import use_repeats
from ziggurat.engine.splits import complete_loaders
from ziggurat.engine.tasks import task_for
from ziggurat.engine.training_options import average_weights, check_options_of_task
from ziggurat.engine.values import check_values

WEIGHTS = "weights"
OURS = ", ".join(["Backbone", *(family.__name__ for family in FAMILIES)])
BUILT: dict[tuple[Any, ...], PyramidBackbone] = {}  # networks that on_meta has built
MOST_BUILT = 64


def complete(cfg: Config, options: Container[str] = ()) -> None:
    """Completes a config in place. Completing it again changes nothing.

    Args:
        cfg: the config, with its options.
        options: the dotted keys that options have set. Errors about them do not blame the config's bases.

    Raises:
        UserError: a part is of another kind, as in ``check_kinds``; the data are not of their format; a number is out
            of range, as in ``check_values``; an option is of another task, or does not fit; the backbone's arch,
            arguments or weights do not exist or do not belong together; a typed number of channels is not the
            network's; a word cannot be replaced.
    """
    check_kinds(cfg)
    task = task_for(cfg)
    check_options_of_task(cfg, task.name)
    task.complete(cfg)
    use_repeats(cfg, task.repeated)
    use_reading(cfg, task.scope_of(cfg))  # of all data sets, those that the task has just added too
    use_channels(cfg)
    use_batch_option(cfg, options)
    check_values(cfg)
    complete_loaders(cfg)
    use_loss(cfg)
    use_class_weights(cfg)
    average_weights(cfg)
    use_early_stopping(cfg)
    follow_accumulation(cfg)
    use_frozen_stages(cfg, lambda backbone: maker_of(backbone, task.scope_of(cfg)))
    nets = []
    for owner in owners(cfg.get("model"), task.scope_of(cfg)):
        nets.append(complete_backbone(owner, maker_of(owner.backbone, task.scope_of(cfg)), options))
        complete_channels(owner, nets[-1])
        if len(nets) == 1 and any(word == WEIGHTS for _, word in words_left(cfg.to_dict())):
            known = statistics(nets[0].arch, weights_of(owner.backbone)).for_channels(nets[0].in_chans)
            fill_statistics(cfg, known)
    for name, word in words_left(cfg.to_dict()):
        check_type(cfg, task.scope_of(cfg))
        raise UserError(f"{name}={word!r} cannot be filled in: the model has no backbone of the types {OURS}")


def check_type(cfg: Config, scope: str) -> None:
    """Raises UserError if the type of the backbone is a name that nobody registered."""
    backbone = cfg.model.get("backbone")
    if isinstance(backbone, dict) and maker_of(backbone, scope) is None:
        kind = str(backbone.get("type"))
        hint = type_hint(kind) or f"; allowed: {OURS}"
        raise UserError(f"config {cfg.filename}: {kind} is not in the {scope}::model registry{hint}")


def owners(part: Any, scope: str) -> Iterator[ConfigDict]:
    """The dicts in a model's config whose ``backbone`` is one of our networks, e.g. the detector in a wrapper."""
    if isinstance(part, dict):
        backbone = part.get("backbone")
        if isinstance(backbone, dict) and maker_of(backbone, scope) in (build_any, *FAMILIES):
            yield part
    if isinstance(part, dict | list | tuple):
        for value in list(part.values()) if isinstance(part, dict) else part:
            yield from owners(value, scope)


def maker_of(backbone: ConfigDict, scope: str) -> Any:
    """The class or function that a backbone's ``type`` names in an mm library's registry; None for no such name."""
    kind = backbone.get("type")
    with MODELS.switch_scope_and_registry(scope) as registry:
        return registry.get(kind) if isinstance(kind, str) else kind


def complete_backbone(owner: ConfigDict, maker: Any, options: Container[str] = ()) -> PyramidBackbone:
    """Completes the config of a network, in place.

    Returns:
        The network, on the meta device.

    Raises:
        UserError: the arch, an argument or the weights do not exist or do not belong together.
    """
    backbone = owner.backbone
    arch = backbone.get("arch")
    if arch is None:
        raise UserError(f"model.backbone names no arch; allowed: {', '.join(list_archs())}")
    family = maker if maker in FAMILIES else family_of(arch)
    check_arguments(backbone, family, options)
    pretrained = backbone.get("pretrained")
    if pretrained is True:
        backbone.pretrained = first_name(arch)
    elif isinstance(pretrained, str) and pretrained in TABLE and not pretrained.startswith(f"{arch}."):
        raise UserError(
            f"model.backbone.pretrained={pretrained!r} belongs to {pretrained.partition('.')[0]}, and the arch is "
            f"{arch}; set model.backbone.pretrained=True, or a name of {arch}'s own weights"
        )
    dense = any(key.endswith(("neck", "head")) and isinstance(owner[key], dict | list) for key in owner)
    if dense and "out_norm" in arguments_of(family) and backbone.get("out_norm") is None:
        backbone.out_norm = True  # as the official detection and segmentation backbones
    other = ("type", "_scope_", "pretrained", "out_indices" if backbone.get("out_blocks") else None)
    arguments = {key: value for key, value in backbone.items() if key not in other}
    if not dense and "out_blocks" not in arguments:
        arguments.setdefault("out_indices", (-1,))
    return on_meta(family, arguments)


def on_meta(family: type[PyramidBackbone], arguments: dict[str, Any]) -> PyramidBackbone:
    """A network on the meta device, to be read alone: equal arguments give the same network.

    Building a network takes longer than all else in completing a config, and a program may read many configs.
    """
    key = (family, repr(family.ARCHS.get(arguments["arch"])), repr(sorted(arguments.items())))
    if key not in BUILT:
        with torch.device("meta"):
            net = family(**arguments)
        if len(BUILT) == MOST_BUILT:
            BUILT.clear()
        BUILT[key] = net
    return BUILT[key]


def check_arguments(backbone: ConfigDict, family: type[PyramidBackbone], options: Container[str] = ()) -> None:
    """Raises UserError for a key that the network does not take, e.g. a ResNet's ``depth`` inherited from a base."""
    if "_delete_" in backbone:  # mmengine takes the key out where it merges the backbone into a base's
        raise UserError("model.backbone has _delete_, and no base has a backbone to replace; leave _delete_ out")
    allowed = arguments_of(family)
    foreign = [key for key in backbone if key not in allowed and key not in ("type", "_scope_")]
    if foreign:
        keys = ", ".join(f"{key}={backbone[key]!r}" for key in foreign)
        advice = (
            "If a base describes another backbone, replace it "
            f'whole: backbone=dict(_delete_=True, type="{backbone.type}", arch="{backbone.arch}"). '
        )
        typed = all(f"model.backbone.{key}" in options for key in foreign)
        raise UserError(
            f"model.backbone: {family.__name__} takes no {keys}. {'' if typed else advice}Allowed: {', '.join(allowed)}"
        )


def weights_of(backbone: ConfigDict) -> Any:
    """The weights that a backbone's config names: its ``pretrained``, or the checkpoint of mm's ``init_cfg``."""
    return backbone.get("pretrained") or (backbone.get("init_cfg") or {}).get("checkpoint")


def fill_statistics(part: Any, known: Statistics) -> None:
    """Replaces every ``"weights"``, in place. mm's modules get 0..255, our BatchPreprocessor and timm get 0..1."""
    if isinstance(part, dict | Config):
        for name in ("mean", "std"):
            if part.get(name) == WEIGHTS:
                # A dict without a type holds the arguments of timm's create_transform.
                unit = part.get("type") in (None, "BatchPreprocessor")
                part[name] = [value if unit else round(255 * value, 4) for value in getattr(known, name)]
        part = list(part.values())
    for value in part if isinstance(part, list | tuple) else ():
        fill_statistics(value, known)


def words_left(part: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The words that are left, each with its key, such as ``("model.neck.in_channels", "backbone")``."""
    pairs = part.items() if isinstance(part, dict) else enumerate(part)
    for key, value in pairs:
        inside = f"{name}.{key}" if name else str(key)
        if (key in ("in_channels", "c1_in_channels") and value == BACKBONE) or (
            key in ("mean", "std") and value == WEIGHTS
        ):
            yield inside, value
        elif isinstance(value, dict | list | tuple):
            yield from words_left(value, inside)

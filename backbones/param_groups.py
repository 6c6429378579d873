"""Optimiser groups from names and depths: no decay where it does harm, smaller steps for earlier layers."""

import re
from typing import Any

from torch import nn

from backbones.errors import UserError


def param_groups(
    model: nn.Module, lr: float, weight_decay: float, layer_decay: float = 1.0, no_decay: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """Groups the trainable parameters for an optimiser.

    Args:
        model: a backbone, or anything that has one as ``.backbone``; what is outside the backbone is the last layer.
        lr: learning rate of the last layer.
        weight_decay: decay of weights with two or more dimensions; biases, norms and layer scales get none.
        layer_decay: each layer's rate is this times the next one's, in (0, 1]; a layer is the stem, one block with
            the downsampling before it, or all that follows the last block.
        no_decay: further parts of names that get no weight decay.

    Returns:
        Dicts with ``params``, ``lr``, ``weight_decay`` and ``names``, first layer first.
    """
    if not isinstance(layer_decay, int | float) or not 0 < layer_decay <= 1:
        raise UserError(f"layer_decay is {layer_decay!r}; allowed: 0 < layer_decay <= 1")
    if isinstance(no_decay, str) or not all(isinstance(part, str) for part in no_decay):
        raise UserError(f"no_decay is {no_decay!r}; allowed: a tuple of parts of names")
    for option, value in (("lr", lr), ("weight_decay", weight_decay)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise UserError(f"{option} is {value!r}; allowed: numbers from 0 up")
    backbone = getattr(model, "backbone", model)
    prefix = "" if backbone is model else "backbone."
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, param in model.named_parameters():
        if not param.requires_grad:
            continue
        layer = layer_of(name, prefix, backbone.depths)
        scale = layer_decay ** (sum(backbone.depths) + 1 - layer)
        decay = 0.0 if param.ndim <= 1 or any(part in name for part in no_decay) else weight_decay
        new = {"params": [], "lr": lr * scale, "weight_decay": decay, "names": []}
        group = groups.setdefault((scale, decay), new)
        group["params"].append(param)
        group["names"].append(name)
    return [groups[key] for key in sorted(groups)]


def layer_of(name: str, prefix: str, depths: tuple[int, ...]) -> int:
    """0 for the stem, 1..sum(depths) for the blocks, one more for everything else; a stage's norm is its last block."""
    if not name.startswith(prefix):
        return sum(depths) + 1
    name = name.removeprefix(prefix)
    if name.startswith("stem."):
        return 0
    stage = re.match(r"stages\.(\d+)\.(downsample|blocks|norm)(?:\.(\d+))?", name)
    if stage is None:
        return sum(depths) + 1
    i, part = int(stage[1]), stage[2]
    block = {"downsample": 0, "norm": depths[i] - 1}.get(part)
    return 1 + sum(depths[:i]) + (int(stage[3]) if block is None else block)

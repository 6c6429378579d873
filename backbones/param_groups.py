"""Optimiser groups from names and depths: no decay where it does harm, smaller steps for earlier layers."""

from typing import Any

from torch import nn

from backbones.errors import UserError, shown
from backbones.places import Place, place_of

LARGEST = 1e30  # a rate above it gives no finite weights
DECAY_TYPES = ("layer_wise", "stage_wise")
FEWEST_LAYERS = 4  # one for each stage
MOST_LAYERS = 1000  # more than any network has


def param_groups(
    model: nn.Module,
    lr: float,
    weight_decay: float,
    layer_decay: float = 1.0,
    no_decay: tuple[str, ...] = (),
    num_layers: int | None = None,
    decay_type: str = "layer_wise",
    last_layer: int | None = None,
) -> list[dict[str, Any]]:
    """Groups the trainable parameters for an optimiser.

    ``num_layers`` and ``decay_type`` mean the same as in the optimiser constructors of ConvNeXt, HorNet and
    mmdetection. The learning rate of layer ``i`` is ``lr * layer_decay ** (num_layers + 1 - i)``. :func:`layer_of`
    says which layer a parameter belongs to.

    Args:
        model: a backbone, or a model that has one as ``.backbone``. Everything outside the backbone is the last layer.
        lr: learning rate of the last layer, 0 or more.
        weight_decay: weight decay, 0 or more, for tensors of two or more dimensions. Biases, norms and layer scales
            get none.
        layer_decay: a layer's learning rate divided by the next layer's, in (0, 1].
        no_decay: parts of names. A parameter whose name contains one gets no weight decay, e.g. ``("pos_embed",)``.
        num_layers: the number of layers that the blocks are grouped into, 4 to 1000. None makes a layer of each block,
            or of each stage.
        decay_type: ``"layer_wise"``, or ``"stage_wise"`` for one layer per stage.
        last_layer: the layer of stage 4 where ``num_layers`` groups the blocks. None means ``num_layers``. HorNet's
            Mask R-CNN has 12 with ``num_layers=6``, so that its deepest layers learn faster than its heads.

    Returns:
        Dicts with ``params``, ``lr``, ``weight_decay`` and ``names``, first layer first.

    Raises:
        UserError: an argument is out of its range.
    """
    check_arguments(lr, weight_decay, layer_decay, no_decay, num_layers, decay_type, last_layer)
    backbone = getattr(model, "backbone", model)
    if not isinstance(model, nn.Module) or not hasattr(backbone, "depths"):
        kind = f"a {type(model).__name__}" if isinstance(model, nn.Module) else shown(model)
        raise UserError(f"model is {kind}; allowed: a network of create_backbone, a model with one as .backbone")
    prefix = "" if backbone is model else "backbone."
    grouped = num_layers is not None
    count = num_layers or (len(backbone.depths) if decay_type == "stage_wise" else sum(backbone.depths))
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, param in model.named_parameters():
        if not param.requires_grad:
            continue
        place = place_of(name.removeprefix(prefix)) if name.startswith(prefix) else Place(None, "", None)
        layer = layer_of(place, backbone.depths, count, grouped, decay_type, last_layer or count)
        scale = layer_decay ** (count + 1 - layer)
        decay = 0.0 if param.ndim <= 1 or any(part in name for part in no_decay) else weight_decay
        new = {"params": [], "lr": lr * scale, "weight_decay": decay, "names": []}
        group = groups.setdefault((scale, decay), new)
        group["params"].append(param)
        group["names"].append(name)
    return [groups[key] for key in sorted(groups)]


def layer_of(
    place: Place, depths: tuple[int, ...], num_layers: int, grouped: bool, decay_type: str, last_layer: int
) -> int:
    """The layer, from 0, of a place in a backbone with ``depths`` blocks in each stage.

    The stem is layer 0. Everything outside stem and stages is layer ``num_layers + 1``. Layers between them:

    - By default each block is a layer. A downsampling belongs to the block after it, a stage's norm to its last block.
    - With ``grouped`` stages 1 and 2 are one layer each. Stage 3 has a layer for every two blocks, up to layer
      ``last_layer - 1``. Stage 4 is layer ``last_layer``.
    - With ``"stage_wise"`` the four stages are layers 1 to 4, and their downsamplings belong to layer 0.
    """
    stage = place.stage
    if place.part == "stem":
        return 0
    if stage is None:
        return num_layers + 1
    block = {"downsample": 0, "norm": depths[stage] - 1}.get(place.part, place.block)
    if decay_type == "stage_wise":
        return 0 if place.part == "downsample" else stage + 1
    if not grouped:
        return 1 + sum(depths[:stage]) + block
    return (1, 2, min(3 + block // 2, last_layer - 1), last_layer)[stage]


def check_arguments(
    lr: Any, weight_decay: Any, layer_decay: Any, no_decay: Any, num_layers: Any, decay_type: Any, last_layer: Any
) -> None:
    if isinstance(layer_decay, bool) or not isinstance(layer_decay, int | float) or not 0 < layer_decay <= 1:
        raise UserError(f"layer_decay is {shown(layer_decay)}; allowed: 0 < layer_decay <= 1")
    if not isinstance(no_decay, list | tuple | set) or not all(isinstance(part, str) for part in no_decay):
        raise UserError(f"no_decay is {shown(no_decay)}; allowed: a tuple of parts of names")
    for option, value in (("lr", lr), ("weight_decay", weight_decay)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST:
            raise UserError(f"{option} is {shown(value)}; allowed: numbers from 0 up, and finite")
    for option, value in (("num_layers", num_layers), ("last_layer", last_layer)):
        if value is not None and (type(value) is not int or not FEWEST_LAYERS <= value <= MOST_LAYERS):
            raise UserError(
                f"{option} is {shown(value)}; allowed: None, integers from {FEWEST_LAYERS} to {MOST_LAYERS}"
            )
    if not isinstance(decay_type, str) or decay_type not in DECAY_TYPES:
        raise UserError(f"decay_type is {shown(decay_type)}; allowed: {', '.join(DECAY_TYPES)}")
    if last_layer is not None and (num_layers is None or decay_type != "layer_wise"):
        raise UserError(f"last_layer is {last_layer!r}; allowed: None, unless num_layers groups blocks layer_wise")

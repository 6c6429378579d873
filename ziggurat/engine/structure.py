"""The structure that weights fix, such as HorNet's filter sizes: settled before loading, and written to configs."""

from typing import Any

from torch import Tensor, nn

from backbones import PyramidBackbone
from backbones.weights import match_structure, match_structures, read_own_meta, tensors_of
from ziggurat.engine.wrappers import unwrap


def networks_of(model: nn.Module) -> list[PyramidBackbone]:
    """Our networks within a model."""
    return [module for module in model.modules() if isinstance(module, PyramidBackbone)]


def settle_structure(model: nn.Module, start: dict[str, Any] | None, exact: bool) -> None:
    """Gives networks the structure of the weights that they will load, before DDP and optimisers see the parameters.

    Args:
        model: the model, wrapped or not.
        start: the content of the checkpoint that the whole run starts from. It brings every tensor, so the networks'
            ``pretrained`` is dropped. With None, each network follows its own ``pretrained``.
        exact: as for :func:`load_state`.
    """
    for network in networks_of(model):
        if start is not None:
            network.pretrained = None
        elif network.pretrained is not None:
            match_structure(network, network.pretrained)
    if start is not None:
        follow_structure(unwrap(model), tensors_of(start), read_own_meta(start), exact)


def follow_structure(model: nn.Module, state: dict[str, Tensor], own: dict[str, Any] | None, exact: bool) -> None:
    """Gives networks the structure that a checkpoint of the whole model has.

    Args:
        model: the model, not wrapped.
        state: the tensors of the whole model.
        own: the result of ``read_own_meta`` for the checkpoint.
        exact: whether the checkpoint decides alone. Testing and resuming need this, since the config may have been
            completed for other weights. Otherwise an argument that the config gives stays.
    """
    for network in networks_of(model) if exact else ():
        for name in network.SETTLED_BY_WEIGHTS:
            setattr(network, name, None)
    match_structures(model, state, own)


def write_structure(part: Any, model: nn.Module) -> None:
    """Writes the settled structure of each network into its config. The config alone then builds the same structure.

    Args:
        part: a model's config, changed in place.
        model: the model that was built from the config.
    """
    settled = {network.arch: network for network in networks_of(model)}
    if isinstance(part, dict):
        network = settled.get(part.get("arch") if isinstance(part.get("arch"), str) else None)
        if network is not None:
            part.update({name: network.arguments()[name] for name in network.SETTLED_BY_WEIGHTS})
        part = list(part.values())
    for value in part if isinstance(part, list | tuple) else ():
        write_structure(value, model)

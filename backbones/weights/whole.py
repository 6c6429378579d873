"""Checkpoints of whole models, such as detectors: the structure and the tensors of the networks within."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from backbones.weights.fit import check_computed, needed, same_shape
from backbones.weights.network import Network, is_network
from backbones.weights.source import open_source

INSIDE = "backbone."  # by this prefix the authors' segmenters, whose norms have another eps, differ from classifiers


def networks_within(model: nn.Module, state: Mapping[str, Tensor]) -> Iterator[tuple[str, Network, dict[str, Tensor]]]:
    """Each network, the prefix of its names in the model, and its tensors of a state dict, by names with ``INSIDE``."""
    for name, module in list(model.named_modules()):
        if is_network(module):
            prefix = f"{name}." if name else ""
            part = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            yield prefix, module, {INSIDE + key: value for key, value in part.items()}


def match_structures(model: nn.Module, state: Mapping[str, Tensor], own: Mapping[str, Any] | None = None) -> None:
    """Gives every network within a model the structure that a checkpoint of the whole model has.

    Args:
        model: a detector, segmenter, classifier or backbone.
        state: the state dict of the whole model, from the checkpoint.
        own: the result of ``read_own_meta`` for the checkpoint.
    """
    for _, network, part in networks_within(model, state):
        content = {"state_dict": part, "meta": {"ziggurat": own}}
        network.match_structure(open_source(network.arch, network.ARCHS[network.arch], content).structure)


def with_our_names(model: nn.Module, state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The tensors of a whole model, those of its networks by our names and in our shapes.

    The authors' detectors and segmenters name the tensors of a network in their own way. Tensors that only their code
    needs, and of maps that the network does not return, are left out. All other tensors are kept as they are.

    Args:
        model: a detector, segmenter, classifier or backbone, with the structure of the checkpoint.
        state: the state dict of the whole model, from the checkpoint.
        where: the checkpoint's name in messages.

    Raises:
        UserError: a stored table differs from the one that the network computes.
    """
    state = dict(state)
    for prefix, network, part in networks_within(model, state):
        opened = open_source(network.arch, network.ARCHS[network.arch], {"state_dict": part})
        found, keys = opened.format, opened.found.keys
        if found.source in ("ziggurat", "unknown"):
            continue
        for key, make in found.computed.items():
            check_computed(where, prefix + keys[key].removeprefix(INSIDE), opened.found.tensors[key], make())
        target = network.state_dict()
        renamed = {}
        for key, name in found.names.items():
            if name not in target and not needed(network, name):
                continue
            value = opened.found.tensors[key]
            fits = name in target and same_shape(value, target[name])
            renamed[prefix + name] = value.reshape(target[name].shape) if fits else value
        for key in (*found.names, *found.beside):
            state.pop(prefix + keys[key].removeprefix(INSIDE), None)
        state |= renamed
    return state

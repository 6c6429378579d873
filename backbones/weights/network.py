"""The attributes and methods of a network that loading uses. No network is imported here."""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from backbones.errors import UserError, shown

NETWORKS: list[type] = []  # the classes of networks; PyramidBackbone adds every subclass of its own
MODELS = "a network of create_backbone or create_classifier"


class Network(Protocol):
    """A backbone, as loading sees it.

    Attributes:
        arch: a key of ``ARCHS``.
        ARCHS: arch -> row of the arch table, which the family's module in ``backbones.convert`` reads.
        pretrained: the weights that the network's constructor was given, or None.
        pretrained_prefix: the beginning of the names to take from ``pretrained``, or None.
        which: chooses between several sets of weights in ``pretrained``, as for ``load_weights``.
        depths: number of blocks of each stage in the arch, built or not.
        stages: the stages that were built, each with ``blocks``.
        is_fused: whether the network is in its inference form, which takes no weights.
        load_report: the report of the last load, or None.
    """

    arch: str
    ARCHS: Mapping[str, Any]
    pretrained: Any
    pretrained_prefix: str | None
    which: str | None
    depths: tuple[int, ...]
    stages: nn.ModuleList
    is_fused: bool
    load_report: Any

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments that build this structure."""

    def match_structure(self, structure: Mapping[str, Any]) -> None:
        """Takes over the arguments in ``structure`` that the constructor's caller left at None."""

    def fitted(self, name: str, stored: Tensor, target: Tensor) -> Tensor:
        """The stored tensor as the network takes it under ``name``: unchanged, or resized to ``target``."""

    def state_dict(self) -> dict[str, Any]: ...


def is_network(module: Any) -> bool:
    """Whether a module is a :class:`Network`. A wrapper that passes attributes on is not one."""
    return hasattr(type(module), "match_structure")


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside DDP, DataParallel, AveragedModel and torch.compile, nested in any order.

    Raises:
        UserError: ``model`` is no module.
    """
    if not isinstance(model, nn.Module):
        raise UserError(f"model is {shown(model)}; allowed: {MODELS}")
    while not is_network(model) and "backbone" not in model._modules:
        inner = model._modules.get("_orig_mod", model._modules.get("module"))
        if inner is None:
            break
        model = inner
    return model


def backbone_of(model: nn.Module) -> Network:
    """The backbone of an unwrapped model: ``model.backbone``, or the model itself.

    Raises:
        UserError: there is no backbone, or FullyShardedDataParallel has flattened its tensors.
    """
    if any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules()):
        raise UserError("model is in FullyShardedDataParallel, which flattens tensors; allowed: fully_shard, DDP, none")
    backbone = unwrapped(model._modules.get("backbone") or model)
    if not is_network(backbone):
        kind = type(model).__name__
        raise UserError(f"model is a {kind}; allowed: {MODELS}")
    return backbone

"""What loading needs of a network; no class of networks is known here."""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import nn

from backbones.errors import UserError


class Network(Protocol):
    """A backbone, as loading sees it.

    Attributes:
        arch: a key of ``ARCHS``.
        ARCHS: arch -> row; a row has what the family's module in ``backbones.convert`` asks for.
        depths: blocks of each stage, those that were not built included.
        stages: the stages that were built, each with ``blocks``.
        is_fused: whether the network has its inference form, which takes no weights.
        load_report: of the last load.
    """

    arch: str
    ARCHS: Mapping[str, Any]
    depths: tuple[int, ...]
    stages: nn.ModuleList
    is_fused: bool
    load_report: Any

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments that give this structure."""

    def match_structure(self, structure: Mapping[str, Any]) -> None:
        """Takes over those constructor's arguments of loaded weights that the caller left open."""

    def state_dict(self) -> dict[str, Any]: ...


def is_network(module: Any) -> bool:
    """Whether a module is a :class:`Network`; a wrapper that hands attributes on is not."""
    return hasattr(type(module), "match_structure")


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside DDP, DataParallel, AveragedModel or what torch.compile returns, nested as they may be."""
    while not is_network(model) and "backbone" not in model._modules:
        inner = model._modules.get("_orig_mod", model._modules.get("module"))
        if inner is None:
            break
        model = inner
    return model


def backbone_of(model: nn.Module) -> Network:
    """The backbone that an unwrapped ``model`` is, or has as ``.backbone``; UserError where there is none."""
    if any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules()):
        raise UserError("model is in FullyShardedDataParallel, which flattens tensors; allowed: fully_shard, DDP, none")
    backbone = unwrapped(model._modules.get("backbone") or model)
    if not is_network(backbone):
        kind = type(model).__name__
        raise UserError(f"model is a {kind}; allowed: what create_backbone or create_classifier made")
    return backbone

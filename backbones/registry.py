"""Arch name to network: the tables of all families in one place."""

import fnmatch
from typing import Any

from backbones.errors import unknown
from backbones.hornet import HorNet
from backbones.pvig import PViG
from backbones.pyramid import PyramidBackbone
from backbones.van import VAN
from backbones.vig import ViG
from backbones.vvt import VVT

FAMILIES: tuple[type[PyramidBackbone], ...] = (VAN, HorNet, PViG, ViG, VVT)


def list_archs(pattern: str = "*") -> list[str]:
    """The arch names that match a shell pattern, e.g. ``"van*"``, family by family, small to large."""
    return [arch for family in FAMILIES for arch in family.ARCHS if fnmatch.fnmatch(arch, pattern)]


def family_of(arch: str) -> type[PyramidBackbone]:
    """The class that builds ``arch``; UserError with the nearest names for an unknown one."""
    for family in FAMILIES:
        if isinstance(arch, str) and arch in family.ARCHS:
            return family
    raise unknown("arch", arch, list_archs())


def create_backbone(arch: str, **kwargs: Any) -> PyramidBackbone:
    """Builds a backbone and, where ``pretrained`` is given, loads it.

    Args:
        arch: one of :func:`list_archs`.
        **kwargs: those of :class:`PyramidBackbone`: out_indices, in_chans, drop_path_rate, pretrained, frozen_stages,
            norm_eval, grad_checkpointing; and those of the arch's class.

    Returns:
        The network in eval-agnostic, freshly constructed state (training mode, as any ``nn.Module``).

    Raises:
        UserError: an unknown arch or argument, a value out of range, or weights that do not fit.
    """
    net = family_of(arch)(arch, **kwargs)
    net.init_weights()
    return net

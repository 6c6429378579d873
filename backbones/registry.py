"""From the name of an arch to its network, over all families."""

import fnmatch
from collections.abc import Mapping
from typing import Any

import torch

from backbones.checks import check_init_cfg, check_pattern, check_which
from backbones.errors import UserError, arguments_of, unknown
from backbones.hornet import HorNet
from backbones.pvig import PViG
from backbones.pyramid import PyramidBackbone
from backbones.van import VAN
from backbones.vig import ViG
from backbones.vvt import VVT
from backbones.weights.fit import count_if_fits
from backbones.weights.own import read_own_meta
from backbones.weights.source import Source, open_source, read_source
from backbones.weights.table import WEIGHTS, check_pretrained

FAMILIES: tuple[type[PyramidBackbone], ...] = (VAN, HorNet, PViG, ViG, VVT)


def list_archs(pattern: str = "*") -> list[str]:
    """The names of archs that match a shell pattern, e.g. ``"van*"``, family by family, small to large."""
    return [arch for family in FAMILIES for arch in fnmatch.filter(family.ARCHS, check_pattern(pattern))]


def family_of(arch: str) -> type[PyramidBackbone]:
    """The class that builds ``arch``; UserError with the nearest names for an unknown one."""
    for family in FAMILIES:
        if isinstance(arch, str) and arch in family.ARCHS:
            return family
    raise unknown("arch", arch, list_archs())


def create_backbone(arch: str | None = None, **kwargs: Any) -> PyramidBackbone:
    """Builds a backbone and, where ``pretrained`` is given, loads it.

    Args:
        arch: one of :func:`list_archs`. None takes the arch of the weights, see :func:`arch_of`.
        **kwargs: arguments of :class:`PyramidBackbone` (out_indices, in_chans, drop_path_rate, pretrained,
            frozen_stages, norm_eval, grad_checkpointing, init_cfg, which) and of the arch's class. An own checkpoint as
            ``pretrained`` supplies the structure arguments that are not given, such as in_chans, but not out_indices.

    Returns:
        The network, in training mode as any new ``nn.Module``.

    Raises:
        UserError: an unknown arch or argument, a value out of range, or weights that do not fit.
    """
    if arch is None:
        arch = arch_of(kwargs.get("pretrained"), kwargs.get("which"))
    net = build_backbone(arch, kwargs.get("pretrained"), **kwargs)
    net.init_weights()
    return net


def build_backbone(arch: str, weights: Source | bool | None = None, **kwargs: Any) -> PyramidBackbone:
    """A backbone with the structure of ``weights``, but without their values; see :func:`create_backbone`.

    Without ``weights`` the structure is that of the checkpoint in ``init_cfg``, if it is given.
    """
    family, prefix = family_of(arch), None
    others = {name: value for name, value in kwargs.items() if name not in arguments_of(family)}
    if others:
        raise family.does_not_take(others)
    if weights is None:
        weights, prefix = check_init_cfg(kwargs.get("init_cfg"))
    left_open = [name for name in family.SETTLED_BY_WEIGHTS if kwargs.get(name) is None]
    given = {name: value for name, value in kwargs.items() if name not in left_open}
    settled = settled_arguments(arch, weights, prefix, check_which(kwargs.get("which")))
    taken = {name: value for name, value in settled.items() if name not in given}
    try:
        net = family(arch, **(taken | given))
    except UserError as error:
        if any(str(error).startswith(f"{name} is ") for name in taken):
            raise UserError(f"{error}; the description in the weights says so") from None
        raise
    for name in left_open:
        setattr(net, name, None)  # weights that are loaded later settle it anew
    return net


def settled_arguments(
    arch: str, weights: Source | bool | None, prefix: str | None = None, which: str | None = None
) -> dict[str, Any]:
    """The constructor's arguments that weights fix: ``norm_eps``, ``filter_sizes``, ...

    An own checkpoint stores all arguments that its outputs depend on, such as ``in_chans``. Other arguments in its
    description, such as ``drop_path_rate``, are not taken. A file is read once: the load that follows gets the content
    from here.

    Args:
        arch: the network's arch.
        weights: as ``pretrained`` for :func:`create_backbone`, or a checkpoint in memory. None fixes nothing.
        prefix: the beginning of the tensors' names, see :func:`backbones.weights.source.open_source`.
        which: chooses between several sets of weights, as for ``load_weights``.

    Raises:
        UserError: a file that is absent, unsafe or cut off, or a name of no weights.
    """
    family = family_of(arch)
    weights = weights if isinstance(weights, Mapping) else check_pretrained(arch, weights)
    if weights is None:
        return {}
    opened = open_source(arch, family.ARCHS[arch], weights, which, prefix, ahead=True)
    said = opened.own and opened.own["backbone"]
    if not said or said["arch"] != arch:
        return opened.structure
    with torch.device("meta"):
        structural = family(arch).arguments().keys()
    # The caller, not the weights, decides which maps are returned.
    return {name: said[name] for name in structural & said.keys() - {"arch", "out_indices"}} | opened.structure


def arch_of(pretrained: Source | bool | None, which: str | None = None) -> str:
    """The arch of weights. An own checkpoint names its arch. For other weights all archs are compared.

    Args:
        pretrained: a name of the weights table, a URL, a file, or a checkpoint in memory.
        which: chooses between several sets of weights, as for ``load_weights``.

    Raises:
        UserError: no weights are given, or they do not hold all tensors of any arch.
    """
    if pretrained is None or isinstance(pretrained, bool):
        raise UserError("arch is not given; allowed without it: pretrained as a name of weights, a URL or a file")
    if isinstance(pretrained, str) and pretrained in WEIGHTS:
        return pretrained.split(".")[0]
    where, content = read_source(None, pretrained, ahead=True)
    said = (read_own_meta(content) or {}).get("backbone")
    if said:
        family_of(said["arch"])
        return said["arch"]

    def tensors_that_fit(arch: str) -> int:
        family = family_of(arch)
        return count_if_fits(family, arch, open_source(arch, family.ARCHS[arch], content, which).found.tensors)

    counts = {arch: tensors_that_fit(arch) for arch in list_archs()}
    if not any(counts.values()):
        raise UserError(
            f"{where} does not hold all tensors of any known arch; give arch=NAME to see which tensors are missing"
        )
    return max(counts, key=counts.get)

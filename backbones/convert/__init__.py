"""Renames tensors between published checkpoints and our networks. Each family has one module here.

A layout is called by its ``source``, the word for who made the checkpoint: ``official``, ``mmpretrain``, ... Our own
layout is ``ziggurat``. The lists are explicit, so nothing is guessed: a tensor that is on no list is not renamed.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from torch import Tensor

from backbones.convert import hornet, van, vig, vvt
from backbones.convert.layout import Layout
from backbones.places import place_of

LAYOUTS = {"van": van, "hornet": hornet, "pvig": vig, "vig": vig, "vvt": vvt}
STRUCTURES = {"van": van.structure, "hornet": hornet.structure}  # families whose structure depends on weights
BESIDE_STAGES = re.compile(r"(out_norms\.\d+|head\.(fc|fc1|fc2|norm))\.")  # our modules besides stem and stages


class Recognised(NamedTuple):
    """The layout that a checkpoint was found to have.

    Attributes:
        source: a word of :func:`sources`, ``"ziggurat"`` or ``"unknown"``.
        names: name in the checkpoint -> our name, for each tensor that the layout lists. Our names of backbone tensors
            have no prefix, e.g. ``backbone.patch_embed1.projection.weight`` -> ``stem.conv.weight``. Names of the
            classifier's head begin with ``head.``, e.g. ``head.fc.weight``.
        beside: further names that a strict load may leave out: dead tensors, and tensors outside the backbone, such as
            a detector's heads.
        computed: tensors that the checkpoint stores and our network computes: name in the checkpoint -> function that
            makes the tensor.
    """

    source: str
    names: dict[str, str]
    beside: set[str]
    computed: dict[str, Callable[[], Tensor]]


@lru_cache(maxsize=1 << 16)  # each layout is tried on all names of a checkpoint
def is_ours(name: str) -> bool:
    """Whether a name can be a tensor of our networks and heads, such as ``stages.0.blocks.1.norm1.weight``."""
    return bool(place_of(name).part or BESIDE_STAGES.match(name))


def family_word(arch: str) -> str:
    """The first word of an arch's name: ``van`` for ``van_b2``. It is the family's key in the tables here."""
    return arch.partition("_")[0]


def sources(arch: str) -> tuple[str, ...]:
    """The published layouts of an arch's family, such as ``("official", "mmpretrain")``. ``ziggurat`` is not listed."""
    family = LAYOUTS.get(family_word(arch))
    return family.SOURCES if family else ()


def layout_of(arch: str, row: Any, source: str) -> Layout:
    """The layout of ``source`` for an arch with this ``row`` of the arch table."""
    return LAYOUTS[family_word(arch)].layout(source, row)


def known(arch: str, row: Any) -> Callable[[str], bool]:
    """A function that says whether a name can be a tensor of the arch, in any layout."""
    modules: set[str] = set()
    for source in sources(arch):
        layout = layout_of(arch, row, source)
        modules |= {prefix + foreign for prefix in layout.prefixes for foreign in layout.backbone.values()}

    def is_known(name: str) -> bool:
        module = name.rpartition(".")[0]
        return name in modules or module in modules or is_ours(name.removeprefix("backbone."))

    return is_known


def structure(arch: str, row: Any, found: "Recognised", tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The constructor's arguments that a checkpoint fixes, such as ``{"norm_eps": 1e-5}``; empty for most families.

    Args:
        arch: the network's arch.
        row: its row of the arch table.
        found: the result of :func:`recognise`.
        tensors: the checkpoint's tensors, by its own names.
    """
    family = family_word(arch)
    if family not in STRUCTURES:
        return {}
    return STRUCTURES[family](found.source, row, {name: tensors[key] for key, name in found.names.items()})


def recognise(arch: str, row: Any, keys: Iterable[str]) -> Recognised:
    """Finds the layout of a checkpoint by the names of its tensors. The layout that lists most of them wins.

    Args:
        arch: the arch that is to be loaded.
        row: its row of the arch table.
        keys: the checkpoint's tensor names.
    """
    keys = list(keys)
    best, most = Recognised("unknown", {}, set(), {}), 0
    for source in sources(arch):
        layout = layout_of(arch, row, source)
        for prefix in layout.prefixes:
            theirs = {prefix + foreign: ours for ours, foreign in layout.backbone.items()}
            renamed = rename(keys, theirs | {foreign: ours for ours, foreign in layout.head.items()})
            found = sum(not name.startswith("head.") for name in renamed.values())
            if found > most:
                beside = beside_backbone(keys, prefix) | {key for key in keys if key in layout.dead}
                computed = {
                    prefix + key.removeprefix(layout.prefixes[0]): make for key, make in layout.computed.items()
                }
                computed = {key: make for key, make in computed.items() if key in keys}
                best, most = Recognised(source, renamed, beside | computed.keys(), computed), found
    for prefix in ("", "backbone."):
        ours = {key: key.removeprefix(prefix) for key in keys if key.startswith((prefix, "head."))}
        ours = {key: name for key, name in ours.items() if is_ours(name)}
        if len(ours) > len(best.names):
            best = Recognised("ziggurat", ours, beside_backbone(keys, prefix), {})
    return best


def write_state(arch: str, row: Any, state: Mapping[str, Tensor], source: str) -> tuple[dict[str, Tensor], list[str]]:
    """Renames and reshapes tensors into the layout of ``source``.

    Args:
        arch: the network's arch.
        row: its row of the arch table.
        state: the tensors under our names, as :func:`recognise` gives them.
        source: a word of :func:`sources`.

    Returns:
        The tensors by the names of ``source``, with the tensors that it stores and our network computes; and our names
        of the tensors that the layout has no place for.
    """
    layout = layout_of(arch, row, source)
    theirs = {ours: layout.prefixes[0] + foreign for ours, foreign in layout.backbone.items()} | layout.head
    renamed = rename(state, theirs)
    written = {}
    for name, foreign in renamed.items():
        axes = layout.axes.get(name.removesuffix(".weight"))
        written[foreign] = state[name].reshape(*state[name].shape[:2], *[1] * (axes - 2)) if axes else state[name]
    written |= {foreign: make() for foreign, make in layout.computed.items()}
    return written, [name for name in state if name not in renamed]


def rename(keys: Iterable[str], modules: Mapping[str, str]) -> dict[str, str]:
    """Key -> new name, for each key that is in ``modules`` or whose module is: ``a.b.weight`` by an entry ``a.b``."""
    renamed = {}
    for key in keys:
        module, _, leaf = key.rpartition(".")
        if key in modules:
            renamed[key] = modules[key]
        elif module in modules:
            renamed[key] = f"{modules[module]}.{leaf}"
    return renamed


def beside_backbone(keys: list[str], prefix: str) -> set[str]:
    """The keys that do not begin with the prefix ``backbone.``; none if ``prefix`` is another one."""
    return {key for key in keys if prefix == "backbone." and not key.startswith(prefix)}

"""Names of published checkpoints and ours, both ways: one module a family, pure functions of the arch's row.

A format is known by the ``source`` word of its origin; ``ziggurat`` is our own layout. Names are mapped module by
module from an explicit list, so nothing is guessed: a tensor that is not on the list is not renamed.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from backbones.convert import hornet, van, vig, vvt
from backbones.convert.names import Names
from backbones.places import place_of

FAMILIES = {"van": van, "hornet": hornet, "pvig": vig, "vig": vig, "vvt": vvt}
STRUCTURES = {"van": van.structure, "hornet": hornet.structure}  # of the families whose structure follows weights
BESIDE_STAGES = re.compile(r"(out_norms\.\d+|head\.(fc|fc1|fc2|norm))\.")  # what our networks have besides


class Recognised(NamedTuple):
    """A checkpoint's format.

    Attributes:
        source: a word of :func:`sources`, ``"ziggurat"`` or ``"unknown"``.
        names: checkpoint name -> our name, backbone names bare, the head's under ``head.``, for the tensors it knows.
        beside: the other names that a strict load may leave out: dead tensors, and what stands beside the backbone,
            such as a detector's heads.
        computed: names of tensors that the checkpoint stores and we compute -> how.
    """

    source: str
    names: dict[str, str]
    beside: set[str]
    computed: dict[str, Callable[[], Tensor]]


def is_ours(name: str) -> bool:
    """Whether our own networks and heads name a tensor so, e.g. ``stages.0.blocks.1.norm1.weight``."""
    return bool(place_of(name).part or BESIDE_STAGES.match(name))


def family_word(arch: str) -> str:
    """The first word of an arch's name, by which tables here know its family: ``van`` for ``van_b2``."""
    return arch.partition("_")[0]


def sources(arch: str) -> tuple[str, ...]:
    """The published formats known for an arch's family, besides our own; none for a family without published files."""
    family = FAMILIES.get(family_word(arch))
    return family.SOURCES if family else ()


def names_of(arch: str, row: Any, source: str) -> Names:
    """How ``source`` names the network of an arch with this row of its table."""
    return FAMILIES[family_word(arch)].names(source, row)


def known(arch: str, row: Any) -> Callable[[str], bool]:
    """Whether a checkpoint of an arch may hold a tensor of a name, in any format."""
    modules: set[str] = set()
    for source in sources(arch):
        names = names_of(arch, row, source)
        modules |= {prefix + foreign for prefix in names.prefixes for foreign in names.backbone.values()}

    def is_known(name: str) -> bool:
        module = name.rpartition(".")[0]
        return name in modules or module in modules or is_ours(name.removeprefix("backbone."))

    return is_known


def structure(arch: str, row: Any, found: "Recognised", tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The constructor's arguments that a recognised checkpoint fixes besides the values of its tensors.

    Args:
        arch: the network's arch.
        row: its row of the arch table.
        found: what :func:`recognise` found in the checkpoint.
        tensors: the checkpoint's tensors, by its own names.
    """
    family = family_word(arch)
    if family not in STRUCTURES:
        return {}
    return STRUCTURES[family](found.source, row, {name: tensors[key] for key, name in found.names.items()})


def recognise(arch: str, row: Any, keys: Iterable[str]) -> Recognised:
    """Finds the format of a checkpoint by its tensors' names.

    Args:
        arch: the arch that is to be loaded.
        row: its row of the arch table.
        keys: the checkpoint's tensor names.
    """
    keys = list(keys)
    best, most = Recognised("unknown", {}, set(), {}), 0
    for source in sources(arch):
        names = names_of(arch, row, source)
        for prefix in names.prefixes:
            theirs = {prefix + foreign: ours for ours, foreign in names.backbone.items()}
            renamed = rename(keys, theirs | {foreign: ours for ours, foreign in names.head.items()})
            found = sum(not name.startswith("head.") for name in renamed.values())
            if found > most:
                beside = beside_backbone(keys, prefix) | {key for key in keys if key in names.dead}
                computed = {prefix + key.removeprefix(names.prefixes[0]): make for key, make in names.computed.items()}
                computed = {key: make for key, make in computed.items() if key in keys}
                best, most = Recognised(source, renamed, beside | computed.keys(), computed), found
    for prefix in ("", "backbone."):
        ours = {key: key.removeprefix(prefix) for key in keys if key.startswith((prefix, "head."))}
        ours = {key: name for key, name in ours.items() if is_ours(name)}
        if len(ours) > len(best.names):
            best = Recognised("ziggurat", ours, beside_backbone(keys, prefix), {})
    return best


def write_state(arch: str, row: Any, state: Mapping[str, Tensor], source: str) -> tuple[dict[str, Tensor], list[str]]:
    """A checkpoint as ``source`` lays it out.

    Args:
        arch: the network's arch.
        row: its row of the arch table.
        state: the tensors under our names, as :func:`recognise` gives them.
        source: a word of :func:`sources`.

    Returns:
        The tensors under their names, those that they store and we compute included; and our names of the tensors
        that the format has no place for.
    """
    names = names_of(arch, row, source)
    theirs = {ours: names.prefixes[0] + foreign for ours, foreign in names.backbone.items()} | names.head
    renamed = rename(state, theirs)
    written = {}
    for name, foreign in renamed.items():
        axes = names.axes.get(name.removesuffix(".weight"))
        written[foreign] = state[name].reshape(*state[name].shape[:2], *[1] * (axes - 2)) if axes else state[name]
    written |= {foreign: make() for foreign, make in names.computed.items()}
    return written, [name for name in state if name not in renamed]


def rename(keys: Iterable[str], modules: Mapping[str, str]) -> dict[str, str]:
    """Key -> new name for every key that ``modules`` lists, itself or the module whose tensor it is."""
    renamed = {}
    for key in keys:
        module, _, leaf = key.rpartition(".")
        if key in modules:
            renamed[key] = modules[key]
        elif module in modules:
            renamed[key] = f"{modules[module]}.{leaf}"
    return renamed


def beside_backbone(keys: list[str], prefix: str) -> set[str]:
    """The names outside the part that a ``backbone.`` prefix marks; none where there is no such prefix."""
    return {key for key in keys if prefix == "backbone." and not key.startswith(prefix)}

"""The grammar of a backbone's parameter names: stage, part of the stage, block."""

import re
from typing import NamedTuple

STAGE = re.compile(r"stages\.(\d+)\.(downsample|blocks|norm)(?:\.(\d+))?(?:\.|$)")


class Place(NamedTuple):
    """Where a parameter or module lies in a backbone."""

    stage: int | None  # counted from 0; None outside the stages
    part: str  # "stem", "downsample", "blocks", "norm", or "" for anything else, such as output norms
    block: int | None  # within its stage; None outside the blocks


def place_of(name: str) -> Place:
    """The place of a name inside a backbone: ``"stages.2.blocks.5.norm1.weight"`` is ``Place(2, "blocks", 5)``."""
    if name == "stem" or name.startswith("stem."):
        return Place(None, "stem", None)
    found = STAGE.match(name)
    if found is None:
        return Place(None, "", None)
    return Place(int(found[1]), found[2], int(found[3]) if found[2] == "blocks" and found[3] else None)

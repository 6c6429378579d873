"""The word ``in_channels="backbone"``: the channels of the maps that reach a neck or head.

A head that follows a neck gets the neck's channels. The isotropic ViG has one scale. If a neck or head expects several
scales, a simple feature pyramid is put in: in place of an FPN, in front of other necks and heads.
With ViG's ``out_blocks`` the pyramid follows the last of the blocks, and ``out_indices`` only names its scales.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.config import ConfigDict

from backbones.checks import check_int
from backbones.errors import UserError, shown
from backbones.pyramid import PyramidBackbone
from ziggurat.engine.console import say_note

BACKBONE = "backbone"
PYRAMID_CHANNELS = 256  # channels of each scale of a simple pyramid
MOST_MAPS = 1000  # of a neck; more are a mistake
# mmdet's necks that take the maps in another way: from the coarsest on, or the coarsest alone.
FROM_COARSEST, COARSEST = ("YOLOV3Neck",), ("CTResNetNeck", "DilatedEncoder")


def complete_channels(owner: ConfigDict, net: PyramidBackbone) -> None:
    """Fills in the channels of a model's neck and heads, in place.

    Args:
        owner: the model's config, with ``backbone``.
        net: the network that the config's ``backbone`` builds.

    Raises:
        UserError: a typed number of channels differs from the maps' channels.
    """
    maps = [info.channels for info in net.feature_info]
    scales = net.out_indices
    if owner.backbone.get("out_blocks"):  # the blocks name the maps; out_indices, such as a base's, the scales
        scales = tuple(owner.backbone.pop("out_indices", (0, 1, 2, 3)))
    if len(set(net.STRIDES)) == 1 and len(scales) > 1 and wants_scales(owner):
        insert_pyramid(owner, net, scales)
        maps = maps[-1:]
    necks = owner.get("neck")
    for i, neck in enumerate(necks if isinstance(necks, list) else [necks]):
        if neck is not None:
            fill(neck, "neck", maps, check=i == 0)
            maps = outputs(neck, maps)
    for key, part in owner.items():
        if key not in ("backbone", "neck", "data_preprocessor"):
            fill(part, key, maps, check=necks is None)


def wants_scales(owner: ConfigDict) -> bool:
    """Whether the neck, or without a neck a head, has ``in_channels="backbone"``, and so takes several maps."""
    neck = owner.get("neck")
    first = neck[0] if isinstance(neck, list) else neck
    if first is not None:
        return first.get("in_channels") == BACKBONE and first.type != "SimpleFeaturePyramid"
    return any(part.get("in_channels") == BACKBONE for part in dicts(owner) if part is not owner.backbone)


def insert_pyramid(owner: ConfigDict, net: PyramidBackbone, scales: tuple[int, ...]) -> None:
    """Puts a SimpleFeaturePyramid behind the network's last map. ``scales`` 0 to 3 stand for the strides 4 to 32."""
    first, count = scales[0], len(scales)
    if scales != tuple(range(first, 4)):
        raise UserError(f"out_indices is {scales}; allowed before a pyramid: (0, 1, 2, 3), or the last of these")
    if not owner.backbone.get("out_blocks"):
        owner.backbone.out_indices = (3,)
    elif len(net.out_blocks) > 1:
        *unused, last = net.out_blocks
        owner.backbone.out_blocks = (last,)
        say_note(f"out_blocks: the pyramid takes the map of block {last} alone; blocks {unused} give no map")
    pyramid = ConfigDict(
        type="SimpleFeaturePyramid",
        in_channels=BACKBONE,
        out_channels=PYRAMID_CHANNELS,
        num_outs=count,
        start_level=first,
    )
    neck = owner.get("neck")
    if neck is None:
        owner.neck = pyramid
    elif isinstance(neck, dict) and neck.type == "FPN":
        pyramid.update(out_channels=neck.out_channels, num_outs=neck.num_outs)
        pyramid.start_level += neck.get("start_level", 0)
        owner.neck = pyramid
    else:
        owner.neck = [pyramid, *(neck if isinstance(neck, list) else [neck])]


def outputs(neck: ConfigDict, maps: list[int]) -> list[int]:
    """Channels of the maps that a neck returns.

    Raises:
        UserError: the neck is no dict, or their number or channels are no number.
    """
    if not isinstance(neck, dict):
        raise UserError(f"model.neck is {shown(neck)}; allowed: dict(type=..., ...), a list of these, None")
    channels = neck.get("out_channels", maps)
    if isinstance(channels, list | tuple):
        return list(channels)
    check_int("model.neck.out_channels", channels, 1, None)
    return [channels] * check_int("model.neck.num_outs", neck.get("num_outs", len(maps)), 1, MOST_MAPS)


def fill(part: Any, role: str, maps: list[int], check: bool) -> None:
    """Fills in ``in_channels="backbone"`` of a neck or head and of every dict inside.

    Args:
        part: the config of the neck or head, or a list of configs.
        role: its key in the model, such as ``"decode_head"``.
        maps: channels of the maps that reach it.
        check: whether a typed number must equal the maps' channels.
    """
    if isinstance(part, list | tuple):
        for one in part:
            fill(one, role, maps, check)
    elif isinstance(part, dict):
        if part.get("c1_in_channels") == BACKBONE:  # DeepLabV3+ also takes the finest map
            part["c1_in_channels"] = maps[0]
        if part.get("in_channels") == BACKBONE:
            part["in_channels"] = wanted(part, role, maps)
        elif check and "in_channels" in part and (role == "neck" or "in_index" in part):
            check_typed(part, role, maps)
        for key, inside in part.items():
            fill(inside, key, maps, check=False)


def wanted(part: ConfigDict, role: str, maps: list[int]) -> int | list[int]:
    """A module's ``in_channels``: the channels of one map, or a list for several maps.

    Raises:
        UserError: ``in_index`` names no map, or a head of one width gets maps of several widths.
    """
    index = part.get("in_index")
    try:
        if isinstance(index, int):
            return maps[index]
        if isinstance(index, Sequence):
            return [maps[i] for i in index]
    except IndexError:
        raise UserError(f"{role}.in_index is {index}; allowed: maps 0 to {len(maps) - 1}") from None
    if part.get("type") in FROM_COARSEST:
        return maps[::-1]
    if part.get("type") in ("SimpleFeaturePyramid", *COARSEST) or role in ("decode_head", "auxiliary_head"):
        return list(maps) if "pixel_decoder" in part else maps[-1]
    if role.endswith("head") and "pixel_decoder" not in part:
        if len(set(maps)) > 1:
            raise UserError(
                f"{role} takes maps of one width, and the maps have {maps} channels; put a neck before {role}"
            )
        return maps[0]
    return list(maps)


def check_typed(part: ConfigDict, role: str, maps: list[int]) -> None:
    typed, right = part["in_channels"], wanted(part, role, maps)
    typed = list(typed) if isinstance(typed, list | tuple) else typed
    if isinstance(typed, list) == isinstance(right, list) and typed != right:
        raise UserError(
            f"model.{role}.in_channels is {typed}, and the backbone's maps have {right}; "
            f'set model.{role}.in_channels="{BACKBONE}"'
        )


def dicts(part: Any) -> Iterator[ConfigDict]:
    """Every dict within a config, itself included."""
    if isinstance(part, dict):
        yield part
    if isinstance(part, dict | list | tuple):
        for value in part.values() if isinstance(part, dict) else part:
            yield from dicts(value)

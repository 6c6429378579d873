"""Names of published checkpoints and ours, both ways: for each family pure functions of the arch.

A format is known by the ``source`` word of its origin; ``ziggurat`` is our own layout. Names are mapped module by
module from an explicit list, so nothing is guessed: a tensor that is not on the list is not renamed.
Source of the names: the repositories' state dicts, Visual-Attention-Network/VAN-Classification@e19779b,
VAN-Segmentation@8285fc7, open-mmlab/mmpretrain@ee7f2e8, transformers 4.53.3.
"""

from collections.abc import Iterable
from typing import NamedTuple


class Names(NamedTuple):
    """How one source names a network."""

    backbone: dict[str, str]  # our module or parameter -> theirs, below their prefix
    head: dict[str, str]  # the same for the classifier's head
    prefixes: tuple[str, ...]  # before their backbone names; the first is what we write
    dead: tuple[str, ...] = ()  # tensors that their code saves and never uses


def van_names(source: str, depths: tuple[int, ...]) -> Names:
    """The names of a VAN with ``depths`` blocks per stage as ``source`` writes them."""
    embed, block, norm, inner = {
        "official": ("patch_embed{s}", "block{s}.{j}", "norm{s}", VAN_OFFICIAL),
        "mmpretrain": ("patch_embed{s}", "blocks{s}.{j}", "norm{s}", VAN_MMPRETRAIN),
        "huggingface": ("{i}.embeddings", "{i}.layers.{j}", "{i}.normalization", VAN_HUGGINGFACE),
    }["official" if source == "official-seg" else source]
    names = {}
    for i, depth in enumerate(depths):
        ours = "stem" if i == 0 else f"stages.{i}.downsample"
        names[f"{ours}.conv"] = f"{embed.format(s=i + 1, i=i)}.{inner['embed.conv']}"
        names[f"{ours}.norm"] = f"{embed.format(s=i + 1, i=i)}.{inner['embed.norm']}"
        names[f"stages.{i}.norm"] = norm.format(s=i + 1, i=i)
        for j in range(depth):
            for name in VAN_BLOCK:
                names[f"stages.{i}.blocks.{j}.{name}"] = f"{block.format(s=i + 1, i=i, j=j)}.{inner[name]}"
    return {
        "official": Names(names, {"head.fc": "head"}, ("",)),
        "official-seg": Names(names, {}, ("backbone.",)),
        "mmpretrain": Names(names, {"head.fc": "head.fc"}, ("backbone.", "")),
        "huggingface": Names(
            names,
            {"head.fc": "classifier"},
            ("van.encoder.stages.", "encoder.stages."),
            dead=("van.layernorm.weight", "van.layernorm.bias", "layernorm.weight", "layernorm.bias"),
        ),
    }[source]


VAN_OFFICIAL = {
    "embed.conv": "proj",
    "embed.norm": "norm",
    "norm1": "norm1",
    "attn.proj_in": "attn.proj_1",
    "attn.dw": "attn.spatial_gating_unit.conv0",
    "attn.dw_dilated": "attn.spatial_gating_unit.conv_spatial",
    "attn.pw": "attn.spatial_gating_unit.conv1",
    "attn.proj_out": "attn.proj_2",
    "layer_scale1": "layer_scale_1",
    "norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.dw": "mlp.dwconv.dwconv",
    "mlp.fc2": "mlp.fc2",
    "layer_scale2": "layer_scale_2",
}
VAN_MMPRETRAIN = VAN_OFFICIAL | {
    "embed.conv": "projection",
    "attn.dw": "attn.spatial_gating_unit.DW_conv",
    "attn.dw_dilated": "attn.spatial_gating_unit.DW_D_conv",
    "mlp.dw": "mlp.dwconv",
}
VAN_HUGGINGFACE = {
    "embed.conv": "convolution",
    "embed.norm": "normalization",
    "norm1": "pre_normomalization",  # sic
    "attn.proj_in": "attention.pre_projection.conv",
    "attn.dw": "attention.attention_layer.attention.depth_wise",
    "attn.dw_dilated": "attention.attention_layer.attention.depth_wise_dilated",
    "attn.pw": "attention.attention_layer.attention.point_wise",
    "attn.proj_out": "attention.post_projection",
    "layer_scale1": "attention_scaling.weight",
    "norm2": "post_normalization",
    "mlp.fc1": "mlp.in_dense",
    "mlp.dw": "mlp.depth_wise",
    "mlp.fc2": "mlp.out_dense",
    "layer_scale2": "mlp_scaling.weight",
}
VAN_BLOCK = [name for name in VAN_OFFICIAL if not name.startswith("embed.")]

# Where two sources share their names, as both VAN repositories do but for the prefix, the prefix tells them apart.
FAMILIES = {"van": (van_names, ("official", "official-seg", "mmpretrain", "huggingface"))}


def sources(arch: str) -> tuple[str, ...]:
    """The published formats known for an arch's family, besides our own."""
    return FAMILIES[arch.split("_")[0]][1]


def read_names(arch: str, depths: tuple[int, ...], keys: Iterable[str]) -> tuple[str, dict[str, str], set[str]]:
    """Recognises the format of a checkpoint by its tensors' names.

    Args:
        arch: the arch that is to be loaded.
        depths: its blocks per stage.
        keys: the checkpoint's tensor names.

    Returns:
        The source; checkpoint name -> our name (backbone names bare, the head's under ``head.``) for the tensors it
        knows; and the other names that a strict load may leave out: dead tensors, and what stands beside the
        backbone, such as a detector's heads.
    """
    keys = list(keys)
    best: tuple[str, dict[str, str], set[str]] = ("unknown", {}, set())
    make_names, known = FAMILIES[arch.split("_")[0]]
    for source in known:
        names = make_names(source, depths)
        for prefix in names.prefixes:
            renamed = {}
            theirs = {prefix + foreign: ours for ours, foreign in names.backbone.items()}
            theirs |= {foreign: ours for ours, foreign in names.head.items()}
            for key in keys:
                module, _, leaf = key.rpartition(".")
                if key in theirs:
                    renamed[key] = theirs[key]
                elif module in theirs:
                    renamed[key] = f"{theirs[module]}.{leaf}"
            found = sum(not name.startswith("head.") for name in renamed.values())
            if found > sum(not name.startswith("head.") for name in best[1].values()):
                best = (source, renamed, beside(keys, prefix, names.dead))
    for prefix in ("", "backbone."):
        ours = {
            key: key.removeprefix(prefix)
            for key in keys
            if key.startswith((prefix + "stem.", prefix + "stages.", "head.fc."))
        }
        if len(ours) > len(best[1]):
            best = ("ziggurat", ours, beside(keys, prefix, ()))
    return best


def write_names(arch: str, depths: tuple[int, ...], keys: Iterable[str], source: str) -> dict[str, str]:
    """Our name (as in :func:`read_names`) -> the name that ``source`` gives the tensor; KeyError for one it lacks."""
    names = FAMILIES[arch.split("_")[0]][0](source, depths)
    theirs = {ours: names.prefixes[0] + foreign for ours, foreign in names.backbone.items()} | names.head
    renamed = {}
    for key in keys:
        module, _, leaf = key.rpartition(".")
        renamed[key] = theirs[key] if key in theirs else f"{theirs[module]}.{leaf}"
    return renamed


def beside(keys: list[str], prefix: str, dead: tuple[str, ...]) -> set[str]:
    """The names that are dead, or that stand outside the part a non-empty ``prefix`` marks as the backbone."""
    outside = prefix.split(".")[0] + "."
    return {key for key in keys if key in dead or (prefix == "backbone." and not key.startswith(outside))}

"""VAN's names in every published layout.

Source: the state dicts of Visual-Attention-Network/VAN-Classification@e19779b and VAN-Segmentation@8285fc7,
open-mmlab/mmpretrain@ee7f2e8, transformers 4.53.3; projects/van of open-mmlab/mmsegmentation@76b6b89.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from backbones.convert.layout import Layout

# The backbone's names in official and official-seg differ in the prefix alone.
SOURCES = ("official", "official-seg", "mmseg", "mmpretrain", "huggingface")
# eps of the LayerNorms that end the stages. No published file stores this number.
NORM_EPS = {"official": 1e-6, "official-seg": 1e-5, "mmseg": 1e-5, "mmpretrain": 1e-5, "huggingface": 1e-6}


def layout(source: str, row: Any) -> Layout:
    """The layout of ``source`` for a VAN with this ``row`` of the arch table."""
    embed, block, norm, inner = {
        "official": ("patch_embed{s}", "block{s}.{j}", "norm{s}", VAN_OFFICIAL),
        "mmseg": ("patch_embed{s}", "block{s}.{j}", "norm{s}", VAN_MMSEG),
        "mmpretrain": ("patch_embed{s}", "blocks{s}.{j}", "norm{s}", VAN_MMPRETRAIN),
        "huggingface": ("{i}.embeddings", "{i}.layers.{j}", "{i}.normalization", VAN_HUGGINGFACE),
    }["official" if source == "official-seg" else source]
    modules = {}
    for i, depth in enumerate(row.depths):
        ours = "stem" if i == 0 else f"stages.{i}.downsample"
        modules[f"{ours}.conv"] = f"{embed.format(s=i + 1, i=i)}.{inner['embed.conv']}"
        modules[f"{ours}.norm"] = f"{embed.format(s=i + 1, i=i)}.{inner['embed.norm']}"
        modules[f"stages.{i}.norm"] = norm.format(s=i + 1, i=i)
        for j in range(depth):
            for name in VAN_BLOCK:
                modules[f"stages.{i}.blocks.{j}.{name}"] = f"{block.format(s=i + 1, i=i, j=j)}.{inner[name]}"
    return {
        "official": Layout(modules, {"head.fc": "head"}, ("",)),
        "official-seg": Layout(modules, {}, ("backbone.",)),
        "mmseg": Layout(modules, {}, ("", "backbone.")),
        "mmpretrain": Layout(modules, {"head.fc": "head.fc"}, ("backbone.", "")),
        "huggingface": Layout(
            modules,
            {"head.fc": "classifier"},
            ("van.encoder.stages.", "encoder.stages."),
            dead=("van.layernorm.weight", "van.layernorm.bias", "layernorm.weight", "layernorm.bias"),
            container=None,
        ),
    }[source]


def structure(source: str, row: Any, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The constructor's arguments of the networks that weights of ``source`` were trained in."""
    return {"norm_eps": NORM_EPS[source]} if source in NORM_EPS else {}


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
VAN_MMSEG = VAN_OFFICIAL | {"mlp.dw": "mlp.dwconv"}
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

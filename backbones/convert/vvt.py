"""VVT's names in the published layout.

Source: the state dicts of OpenNLPLab/Vicinity-Vision-Transformer@2c49e0f.
"""

from typing import Any

from backbones.convert.layout import Layout

SOURCES = ("official",)


def layout(source: str, row: Any) -> Layout:
    """The layout of ``source`` for a VVT with this ``row`` of the arch table."""
    modules = {}
    for i, depth in enumerate(row.depths):
        ours = "stem" if i == 0 else f"stages.{i}.downsample"
        modules[f"{ours}.conv"] = f"patch_embed{i + 1}.proj"
        modules[f"{ours}.norm"] = f"patch_embed{i + 1}.norm"
        modules[f"stages.{i}.norm"] = f"norm{i + 1}"
        for j in range(depth):
            for name, theirs in BLOCK.items():
                modules[f"stages.{i}.blocks.{j}.{name}"] = f"block{i + 1}.{j}.{theirs}"
    axes = {name: 2 for name in modules if name.endswith(LINEAR)}
    return Layout(modules, {"head.fc": "head"}, ("",), axes=axes, container=None)


BLOCK = {
    "norm1": "norm1",
    "attn.q_proj": "attn.q_proj",
    "attn.k_proj": "attn.k_proj",
    "attn.v_proj": "attn.v_proj",
    "attn.out_proj": "attn.out_proj",
    "attn.gate1": "attn.se_fc.0",
    "attn.gate2": "attn.se_fc.2",
    "norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.dw": "mlp.dwconv.dwconv",
    "mlp.fc2": "mlp.fc2",
}
LINEAR = ("_proj", "mlp.fc1", "mlp.fc2")  # our 1x1 convolutions

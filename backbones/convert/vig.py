"""Names of the isotropic ViG and Pyramid ViG in every published layout.

Source: the state dicts of huawei-noah/Efficient-AI-Backbones@f90e129, vig_pytorch, and open-mmlab/mmpretrain@ee7f2e8.
"""

from functools import partial
from typing import Any

from torch import Tensor

from backbones.convert.layout import Layout
from backbones.ops.graph import relative_position_codes

SOURCES = ("official", "mmpretrain")
HEADS = {
    "official": {"head.fc1": "prediction.0", "head.norm": "prediction.1", "head.fc2": "prediction.4"},
    "mmpretrain": {"head.fc1": "head.fc1", "head.norm": "head.bn", "head.fc2": "head.fc2"},
}


def layout(source: str, row: Any) -> Layout:
    """The layout of ``source`` for a ViG or Pyramid ViG with this ``row`` of the arch table."""
    pyramid = len(set(row.embed_dims)) > 1
    stem = {"official": "stem.convs", "mmpretrain": "stem"}[source]
    convs = 2 if pyramid else 4
    modules = {"stem.pos_embed": "pos_embed"}
    for i in range(convs + 1):
        ours = f"stem.convs.{i}" if i < convs else "stem.last"
        modules |= {f"{ours}.conv": f"{stem}.{3 * i}", f"{ours}.norm": f"{stem}.{3 * i + 1}"}
    flat, computed = 0, {}
    prefix = {"official": "", "mmpretrain": "backbone."}[source]
    for i, depth in enumerate(row.depths):
        if pyramid and i > 0:
            theirs = {"official": f"backbone.{flat}.conv", "mmpretrain": f"stages.{i}.0"}[source]
            modules |= {f"stages.{i}.downsample.conv": f"{theirs}.0", f"stages.{i}.downsample.norm": f"{theirs}.1"}
            flat += 1
        for j in range(depth):
            if source == "official":
                theirs = f"backbone.{flat}"
            else:
                theirs = f"stages.{i}.{j + (i > 0)}" if pyramid else f"blocks.{flat}"
            flat += 1
            modules |= {f"stages.{i}.blocks.{j}.{ours}": f"{theirs}.{name}" for ours, name in BLOCK.items()}
            if pyramid:
                key = f"{prefix}{theirs}.0.relative_pos"
                computed[key] = partial(relative_pos, row.embed_dims[i], 56 >> i, (4, 2, 1, 1)[i])
    return Layout(
        modules,
        HEADS[source],
        {"official": ("",), "mmpretrain": ("backbone.", "")}[source],
        axes={"head.fc1": 4, "head.fc2": 4} if source == "official" else {},
        computed=computed,
        container={"official": None, "mmpretrain": "state_dict"}[source],
    )


BLOCK = {  # 0 is the Grapher, 1 the feed-forward network
    "grapher.fc1.conv": "0.fc1.0",
    "grapher.fc1.norm": "0.fc1.1",
    "grapher.graph.nn.conv": "0.graph_conv.gconv.nn.0",
    "grapher.graph.nn.norm": "0.graph_conv.gconv.nn.1",
    "grapher.graph.nn1.conv": "0.graph_conv.gconv.nn1.0",
    "grapher.graph.nn1.norm": "0.graph_conv.gconv.nn1.1",
    "grapher.graph.nn2.conv": "0.graph_conv.gconv.nn2.0",
    "grapher.graph.nn2.norm": "0.graph_conv.gconv.nn2.1",
    "grapher.graph.eps": "0.graph_conv.gconv.eps",
    "grapher.fc2.conv": "0.fc2.0",
    "grapher.fc2.norm": "0.fc2.1",
    "ffn.fc1.conv": "1.fc1.0",
    "ffn.fc1.norm": "1.fc1.1",
    "ffn.fc2.conv": "1.fc2.0",
    "ffn.fc2.norm": "1.fc2.1",
}


def relative_pos(dim: int, native: int, ratio: int) -> Tensor:
    """The table of relative positions of a stage of Pyramid ViG at 224x224, (1, N, M) float32, as checkpoints store it.

    N is the number of nodes, M that of candidates.
    """
    sides = (native, native, native // ratio, native // ratio)
    p, q = relative_position_codes(dim, native, ratio, *sides, "published")
    return (-2 * p @ q.t()).float()[None]

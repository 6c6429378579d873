"""HorNet's names in every published layout.

Source: the state dicts of raoyongming/HorNet@ac9e210 (classification, object_detection, semantic_segmentation) and
open-mmlab/mmpretrain@ee7f2e8.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from backbones.convert.layout import Layout

# The official code for segmentation and for detection writes the same names. A file of either is found as official-seg.
SOURCES = ("official", "official-seg", "official-det", "mmpretrain")


def layout(source: str, row: Any) -> Layout:
    """The layout of ``source`` for a HorNet with this ``row`` of the arch table."""
    pws, gamma = ("projs", "{}.weight") if source == "mmpretrain" else ("pws", "{}")
    modules = {"stem.0": "downsample_layers.0.0", "stem.1": "downsample_layers.0.1"}
    for i, depth in enumerate(row.depths):
        if i > 0:
            modules[f"stages.{i}.downsample.norm"] = f"downsample_layers.{i}.0"
            modules[f"stages.{i}.downsample.conv"] = f"downsample_layers.{i}.1"
        for j in range(depth):
            ours, theirs = f"stages.{i}.blocks.{j}", f"stages.{i}.{j}"
            for name in BLOCK:
                modules[f"{ours}.{name}"] = f"{theirs}.{name}"
            for k in range(row.orders[i] - 1):
                modules[f"{ours}.gnconv.pws.{k}"] = f"{theirs}.gnconv.{pws}.{k}"
            for name in ("gamma1", "gamma2"):
                modules[f"{ours}.{name}"] = f"{theirs}.{gamma.format(name)}"
    head, prefixes, container = {
        "official": ({"head.norm": "norm", "head.fc": "head"}, ("",), "model"),
        "official-seg": ({}, ("backbone.", ""), "state_dict"),
        "official-det": ({}, ("backbone.", ""), "state_dict"),
        "mmpretrain": ({"head.norm": "backbone.norm3", "head.fc": "head.fc"}, ("backbone.", ""), "state_dict"),
    }[source]
    if source.startswith("official-"):
        modules |= {f"out_norms.{i}": f"norm{i}" for i in range(len(row.depths))}
    axes = {name: 2 for name in modules if name.endswith((".pwconv1", ".pwconv2"))}  # our 1x1 convolutions
    return Layout(modules, head, prefixes, axes=axes, container=container)


def structure(source: str, row: Any, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The constructor's arguments of the network that ``state``, tensors under our names, belongs to.

    All global filters of a stage have one size. If they differ in the file, or have other channels, the row's size is
    returned.
    """
    sizes = []
    for i, size in enumerate(row.filters):
        own = re.compile(rf"stages\.{i}\..*\.complex_weight")
        shapes = {tuple(value.shape) for name, value in state.items() if own.fullmatch(name)}
        channels = sum(row.embed_dims[i] // 2**k for k in range(row.orders[i])) // 2
        shape = shapes.pop() if len(shapes) == 1 else ()
        fits = size is not None and len(shape) == 4 and (shape[0], shape[3]) == (channels, 2)
        sizes.append(list(shape[1:3]) if fits else size and list(size))
    return {"filter_sizes": sizes, "out_norm": any(name.startswith("out_norms.") for name in state)}


BLOCK = (
    "norm1",
    "gnconv.proj_in",
    "gnconv.dwconv",  # a depthwise 7x7 convolution; or a global filter, which has the next three modules inside
    "gnconv.dwconv.dw",
    "gnconv.dwconv.pre_norm",
    "gnconv.dwconv.post_norm",
    "gnconv.proj_out",
    "norm2",
    "pwconv1",
    "pwconv2",
)

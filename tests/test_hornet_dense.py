"""HorNet's gated convolution outside its backbone: the HorFPN neck and the UPerNet head of the official code.

Names and shapes are the published ones, so mm's own loader loads a whole detector or segmenter. Outputs equal the
official code's in float32 and float64.
"""

import json

import numpy as np
import pytest
import torch
from conftest import PARITY, load_fill
from mmdet.registry import MODELS as DETECTION
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS as SEGMENTATION

import detection  # noqa: F401
import segmentation  # noqa: F401

pytestmark = pytest.mark.numeric

FILL = load_fill()
CHANNELS = [96, 192, 384, 768]
FILTERS = {"7x7": None, "gf": (32, 17)}


def parity(kind, name):
    """The path of a parity file, or a skip where it is not there."""
    paths = [folder / kind / name for folder in PARITY if (folder / kind / name).is_file()]
    return paths[0] if paths else pytest.skip(f"no {name}")


def build(registry, config, name, prefix):
    """The module of a config, filled by the rule from exactly the published tensors."""
    module = registry.build(config).eval()
    shapes = json.loads(parity("keys", f"{name}.json").read_text())["tensors"]
    state = {key: torch.from_numpy(FILL.fill(key, tuple(shape))) for key, shape in shapes.items()}
    module.load_state_dict({key.removeprefix(prefix): value for key, value in state.items()}, strict=True)
    golden = np.load(parity("golden", f"{name}.npz"))
    sizes = zip(golden["heights"], golden["widths"], golden["seeds"], golden["in_channels"], strict=True)
    return module, golden, [torch.from_numpy(FILL.image(*map(int, size[:3]), channels=int(size[3]))) for size in sizes]


def check(ours, golden, name, kind):
    suffix, limit = {torch.float32: ("", 1e-5), torch.float64: ("_f64", 1e-6 if kind == "gf" else 1e-10)}[ours.dtype]
    assert list(ours.shape) == list(golden[f"{name}_shape"])
    flat = ours.contiguous().flatten().numpy()
    theirs = golden[f"{name}_values{suffix}"]
    ours = flat[np.linspace(0, flat.size - 1, 512).astype(int)] if flat.size > theirs.size else flat
    assert np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) < limit


@pytest.mark.parametrize("kind", FILTERS)
def test_neck_equals_the_official_one(kind):
    config = {"type": "mmdet.HorFPN", "in_channels": CHANNELS, "filter_size": FILTERS[kind]}
    neck, golden, maps = build(DETECTION, config, f"horfpn_{kind}.official-det", "neck.")
    with torch.no_grad():
        for dtype in (torch.float32, torch.float64):
            for i, out in enumerate(neck.to(dtype)([m.to(dtype) for m in maps])):
                check(out, golden, f"out{i}", kind)


@pytest.mark.parametrize("kind", FILTERS)
def test_head_equals_the_official_one(kind):
    init_default_scope("mmseg")  # the head builds its loss by a bare name
    config = {
        "type": "mmseg.GNUPerHead",
        "in_channels": CHANNELS,
        "in_index": [0, 1, 2, 3],
        "channels": 512,
        "num_classes": 150,
        "norm_cfg": {"type": "BN"},
        "align_corners": False,
        "filter_size": FILTERS[kind],
    }
    head, golden, maps = build(SEGMENTATION, config, f"gnuperhead_{kind}.official-seg", "decode_head.")
    with torch.no_grad():
        for dtype in (torch.float32, torch.float64):
            maps = [m.to(dtype) for m in maps]
            check(head.to(dtype)._forward_feature(maps), golden, "feature", kind)
            check(head(maps), golden, "logits", kind)


def test_extra_levels_by_convolution():
    """As RetinaNet has them, which the official neck has no working option for."""
    config = {
        "type": "mmdet.HorFPN",
        "in_channels": [8, 16],
        "out_channels": 8,
        "num_outs": 4,
        "add_extra_convs": "on_input",
    }
    neck = DETECTION.build(config)
    outs = neck([torch.randn(1, 8, 16, 12), torch.randn(1, 16, 8, 6)])
    assert [tuple(out.shape[1:]) for out in outs] == [(8, 16, 12), (8, 8, 6), (8, 4, 3), (8, 2, 2)]
    sum(out.square().mean() for out in outs).backward()
    assert all(p.grad is not None for p in neck.parameters())

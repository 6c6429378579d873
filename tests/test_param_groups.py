"""Layer decay: the layer of each parameter, with one layer per block and with the groups of published recipes.

The groups are compared with the rules of HorNet's constructors, written again from raoyongming/HorNet@ac9e210,
mmcv_custom/layer_decay_optimizer_constructor.py (both tasks), in the names used there.
"""

import pytest
import torch

from backbones import UserError, create_backbone, list_archs, param_groups
from backbones.places import Place, place_of

DECAY = 0.5


def published_layer(name: str, num_layers: int, decay_type: str) -> int:
    """The layer id of a HorNet parameter of ours, by the published rule for its official name.

    The rule counts blocks up to layer 12, whatever ``num_layers`` is.
    """
    parts = name.removeprefix("backbone.").split(".")
    if parts[0] == "stem":
        downsample, stage = 0, None
    elif parts[0] == "stages" and parts[2] == "downsample":
        downsample, stage = int(parts[1]), None
    elif parts[0] == "stages":
        downsample, stage, block = None, int(parts[1]), int(parts[3])
    else:
        return num_layers + 1
    if decay_type == "stage_wise":
        return 0 if stage is None else stage + 1
    if stage is None:
        return {0: 0, 1: 2, 2: 3, 3: 12}[downsample]
    return {0: 1, 1: 2, 2: min(3 + block // 2, 11), 3: 12}[stage]


@pytest.fixture(scope="module")
def hornet():
    with torch.device("meta"):
        return create_backbone("hornet_tiny_gf", out_norm=True)


@pytest.mark.parametrize(
    ("num_layers", "decay_type", "options"),
    [(12, "layer_wise", {}), (12, "stage_wise", {}), (6, "stage_wise", {}), (6, "layer_wise", {"last_layer": 12})],
)
def test_groups_are_those_of_the_published_recipes(hornet, num_layers, decay_type, options):
    groups = param_groups(hornet, 1.0, 0.05, DECAY, num_layers=num_layers, decay_type=decay_type, **options)
    rates = {name: group["lr"] for group in groups for name in group["names"]}
    assert set(rates) == {name for name, _ in hornet.named_parameters()}
    for name, rate in rates.items():
        assert rate == DECAY ** (num_layers + 1 - published_layer(name, num_layers, decay_type)), name
    layers = {"layer_wise": 14 if num_layers == 12 else 13, "stage_wise": 6}[decay_type]
    assert len({group["lr"] for group in groups}) == layers
    if decay_type == "stage_wise":
        assert rates["stages.3.blocks.0.gamma1"] == DECAY ** (num_layers - 3)


@pytest.mark.parametrize("arch", list_archs())
@pytest.mark.parametrize("options", [{}, {"num_layers": 12}, {"decay_type": "stage_wise"}], ids=str)
def test_layers_rise_from_stem_to_head(arch, options, cut_depths):
    cut_depths(arch, (1, 2, 3, 1))
    with torch.device("meta"):
        net = create_backbone(arch)
    rates = {n: g["lr"] for g in param_groups(net, 1.0, 0.05, DECAY, **options) for n in g["names"]}
    assert set(rates) == {name for name, _ in net.named_parameters()}
    count = options.get("num_layers") or (4 if options else 7)
    for name, rate in rates.items():
        if name.startswith("stem."):
            assert rate == DECAY ** (count + 1), name
    blocks = [min(rate for name, rate in rates.items() if name.startswith(f"stages.{i}.blocks.")) for i in range(4)]
    assert blocks == sorted(set(blocks)) and blocks[-1] == DECAY


def test_a_detectors_neck_and_heads_are_the_last_layer():
    model = torch.nn.Module()
    with torch.device("meta"):
        model.backbone, model.neck = create_backbone("van_b0"), torch.nn.Conv2d(1, 1, 1)
    rates = {n: g["lr"] for g in param_groups(model, 1.0, 0.0, DECAY, num_layers=12) for n in g["names"]}
    assert rates["neck.weight"] == 1.0 and rates["backbone.stem.conv.weight"] == DECAY**13


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("stem.conv.weight", Place(None, "stem", None)),
        ("stages.2.blocks.15.norm1.weight", Place(2, "blocks", 15)),
        ("stages.3.downsample.conv.weight", Place(3, "downsample", None)),
        ("stages.0.norm.weight", Place(0, "norm", None)),
        ("stages.1.norms.weight", Place(None, "", None)),
        ("out_norms.3.weight", Place(None, "", None)),
        ("head.fc.weight", Place(None, "", None)),
    ],
)
def test_places(name, place):
    assert place_of(name) == place


@pytest.mark.parametrize(
    ("option", "value"),
    [("num_layers", 3), ("num_layers", 1.5), ("decay_type", "block"), ("layer_decay", 1.1), ("last_layer", 12)],
)
def test_options_out_of_range_are_named(hornet, option, value):
    with pytest.raises(UserError, match=option):
        param_groups(hornet, 1.0, 0.0, **{option: value})

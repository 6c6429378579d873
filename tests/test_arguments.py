"""Arguments of mm's configs: a foreign key is one line of error, and init_cfg means pretrained."""

import inspect

import numpy as np
import pytest
import torch
from helpers import SMALL
from mmengine.registry import MODELS

from backbones import UserError, create_backbone, list_archs, list_weights, load_weights, param_groups
from backbones.registry import family_of
from ziggurat.engine.register import register_backbones

register_backbones()
RESNET = {"depth": 50, "num_stages": 4, "norm_cfg": {"type": "BN"}, "style": "pytorch"}


def built(arch, **kwargs):
    return MODELS.build({"type": family_of(arch).__name__, "arch": arch, **kwargs})


def built_by_arch(arch, **kwargs):
    return MODELS.build({"type": "Backbone", "arch": arch, **kwargs})


@pytest.mark.parametrize("build", [create_backbone, built, built_by_arch])
@pytest.mark.parametrize("arch", SMALL)
def test_keys_of_another_backbone_are_named(arch, build):
    """As they are merged in where a config inherits a ResNet's."""
    with pytest.raises(UserError) as caught:
        build(arch, **RESNET, init_cfg={"type": "Pretrained", "checkpoint": "torchvision://resnet50"})
    message = str(caught.value)
    assert "\n" not in message
    for word in (*map(repr, RESNET), "_delete_=True", "out_indices", family_of(arch).__name__):
        assert word in message


@pytest.mark.parametrize("arch", SMALL)
@pytest.mark.parametrize("prefix", [None, "student.", "teacher.backbone."])
def test_init_cfg_loads_a_checkpoint(tiny, arch, prefix, tmp_path):
    source = tiny(arch)
    state = {f"{prefix or ''}{name}": value for name, value in source.state_dict().items()}
    if prefix:  # another network beside it
        state |= {f"other.{name}": value + 1 for name, value in source.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "net.pth")
    init_cfg = {"type": "Pretrained", "checkpoint": str(tmp_path / "net.pth")} | ({"prefix": prefix} if prefix else {})
    net = built(arch, init_cfg=init_cfg)
    net.init_weights()
    for name, value in source.state_dict().items():
        assert torch.equal(net.state_dict()[name], value), name


@pytest.mark.parametrize("build", [create_backbone, built])
@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"init_cfg": {"type": "Kaiming", "layer": "Conv2d"}}, ["init_cfg", "Kaiming", "type='Pretrained'"]),
        ({"init_cfg": [{"type": "Pretrained", "checkpoint": "a.pth"}]}, ["init_cfg", "a.pth"]),
        ({"init_cfg": {"type": "Pretrained"}}, ["init_cfg", "checkpoint=FILE"]),
    ],
)
def test_other_kinds_of_init_cfg_are_named(build, kwargs, words):
    with pytest.raises(UserError) as caught:
        build("van_b0", **kwargs)
    assert "\n" not in str(caught.value) and all(word in str(caught.value) for word in words)


def test_pretrained_is_said_once():
    with pytest.raises(UserError, match=r"pretrained is 'b\.pth' and init_cfg .*a\.pth.*; allowed: one of them"):
        built("van_b0", init_cfg={"type": "Pretrained", "checkpoint": "a.pth"}, pretrained="b.pth")


def test_no_init_cfg_is_taken():
    assert built("van_b0", init_cfg=None).pretrained is None


@pytest.mark.parametrize("arch", SMALL)
def test_every_argument_is_documented(arch):
    family = family_of(arch)
    words = " ".join(inspect.getdoc(base) or "" for base in family.__mro__)
    for base in family.__mro__[:2]:
        for name in inspect.signature(base.__init__).parameters:
            assert name in ("self", "args", "kwargs", "others") or f"{name}:" in words or f"{name}," in words, name


INDICES = [np.array([1, 3]), torch.tensor([1, 3]), [np.int64(1), np.int32(3)], (torch.tensor(1), 3), range(1, 4, 2)]


@pytest.mark.parametrize("indices", INDICES)
def test_integers_of_numpy_and_torch_are_integers(indices):
    net = create_backbone("van_b0", out_indices=indices, in_chans=np.int64(3), frozen_stages=torch.tensor(1))
    assert net.out_indices == (1, 3) and (net.in_chans, net.frozen_stages) == (3, 1)
    assert all(type(value) is int for value in (*net.out_indices, net.in_chans, net.frozen_stages))


def test_an_array_of_indices_beside_blocks_is_named():
    with pytest.raises(
        UserError, match=r"out_indices is array\(\[0, 1\]\) and out_blocks \(2,\); allowed: one of them"
    ):
        create_backbone("vig_tiny", out_indices=np.array([0, 1]), out_blocks=(2,))


@pytest.mark.parametrize("indices", [np.array([0.0, 1.0]), np.array([True, False]), torch.tensor([True]), np.array(1)])
def test_other_arrays_are_no_indices(indices):
    with pytest.raises(UserError, match=r"out_indices is .*; allowed: different integers from -4 to 3") as caught:
        create_backbone("van_b0", out_indices=indices)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [(True, 8), (14, False), (1.0, 8)])
def test_filter_sizes_are_integers(size):
    with pytest.raises(UserError, match=r"filter_sizes is .*; allowed: .* with integers from 1"):
        create_backbone("hornet_tiny_gf", filter_sizes=(None, None, size, (7, 4)))


@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("arch", [arch for arch in SMALL if arch != "vig_tiny"])
def test_later_downsamplings_keep_the_size_of_the_map(arch, stride, cut_depths):
    cut_depths(arch, (1, 1, 1, 1))
    net, plain = create_backbone(arch, output_stride=stride).eval(), create_backbone(arch).eval()
    assert [info.stride for info in net.feature_info] == [min(s, stride) for s in (4, 8, 16, 32)]
    assert load_weights(net, plain.state_dict()).missing == [] and net.arguments()["output_stride"] == stride
    x = torch.randn(1, 3, 75, 64)
    maps = net(x)
    rounded = (lambda side, by: side // by) if arch.startswith("hornet") else (lambda side, by: -(-side // by))
    assert [tuple(m.shape[2:]) for m in maps] == [(rounded(75, i.stride), 64 // i.stride) for i in net.feature_info]
    same = (4, 8, 16).index(stride)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(maps[: same + 1], plain(x), strict=False))
    assert {module.dilation for module in net.stages[3].downsample.modules() if hasattr(module, "dilation")} == {(1, 1)}
    # Every second position is the plain network's. In float64, as kernels for different strides sum in other orders.
    ours, theirs = (one.stages[same + 1].downsample.double()(maps[same].double()) for one in (net, plain))
    torch.testing.assert_close(ours[:, :, ::2, ::2][..., : theirs.shape[2], : theirs.shape[3]], theirs)


def test_vig_has_one_stride():
    with pytest.raises(UserError, match="unknown argument of ViG: 'output_stride'"):
        create_backbone("vig_tiny", output_stride=16)


@pytest.mark.parametrize("value", [4, 64, "8", True, None])
def test_output_stride_is_one_of_three(value):
    with pytest.raises(UserError, match=r"output_stride is .*; allowed: 8, 16, 32"):
        create_backbone("van_b0", output_stride=value)


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_grad_checkpointing_is_true_or_false(value):
    net = create_backbone("van_b0", out_indices=(0,))
    with pytest.raises(UserError, match=f"grad_checkpointing is {value!r}; allowed: True, False"):
        net.grad_checkpointing = value
    assert net.grad_checkpointing is False


@pytest.mark.parametrize("lister", [list_archs, list_weights])
@pytest.mark.parametrize("pattern", [None, 3, ["van*"]])
def test_a_pattern_is_a_text(lister, pattern):
    with pytest.raises(UserError, match=r"pattern is .*; allowed: a text"):
        lister(pattern)


def test_more_channels_than_memory_holds_are_refused():
    with pytest.raises(UserError, match="in_chans is 10000000; allowed: integers from 1 to 4096"):
        create_backbone("van_b0", in_chans=10**7)


ODD_TENSORS = {
    "sparse_coo": lambda x: x.to_sparse(),
    "nested": lambda x: torch.nested.nested_tensor([x[0]]),
    "quantized": lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.quint8),
    "torch.uint8 on cpu": lambda x: x.to(torch.uint8),
    "torch.float32 on meta": lambda x: x.to("meta"),
}


@pytest.mark.parametrize("kind", ODD_TENSORS)
@pytest.mark.parametrize("form", ["trained", "fused"])
def test_a_tensor_that_no_layer_takes_is_named(tiny, kind, form):
    net = tiny("van_b0", out_indices=(0,))
    net = net.fuse() if form == "fused" else net
    with pytest.raises(UserError, match=f"^input is {kind}; allowed: "):
        net(ODD_TENSORS[kind](torch.rand(1, 3, 64, 64)))


def test_a_tensor_of_inference_mode_is_named_where_a_gradient_is_wanted(tiny):
    net = tiny("van_b0", out_indices=(0,))
    with torch.inference_mode():
        x = torch.rand(1, 3, 64, 64)
    with pytest.raises(UserError, match=r"inference_mode.*; allowed: its clone"):
        net(x)
    with torch.no_grad():
        net(x)
    assert net.requires_grad_(False)(x)[0].shape == (1, 32, 16, 16)


@pytest.mark.parametrize("name", ["lr", "weight_decay"])
@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e308, 10**400, True, "1"])
def test_rates_are_finite(tiny, name, value):
    with pytest.raises(UserError, match=f"{name} is .*; allowed: numbers from 0 up, and finite"):
        param_groups(tiny("van_b0", out_indices=(0,)), **({"lr": 0.1, "weight_decay": 0.1} | {name: value}))

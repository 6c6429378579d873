"""Arguments of mm's configs: a foreign key is one line of error, and init_cfg means pretrained."""

import inspect

import pytest
import torch
from helpers import SMALL
from mmengine.registry import MODELS

from backbones import UserError, create_backbone
from backbones.registry import family_of
from engine.register import register_backbones

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

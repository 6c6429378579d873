"""``frozen_stages``: what it freezes keeps its weights, of our networks and of others'."""

import copy

import pytest
import torch
from conftest import ROOT
from paper_run import RECIPE, options_for, write_images

from backbones import UserError
from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_training

UPERNET = ROOT / "segmentation/configs/van/upernet_van_b0_512x512_160k_ade20k.py"
RETINANET = ROOT / "detection/configs/van/retinanet_van_b0_fpn_1x_coco.py"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images") / "data")


@pytest.mark.parametrize("paramwise", [None, dict(layer_decay=0.5)])
def test_frozen_stages_keep_their_weights(paramwise, images, tmp_path, cut_depths, capsys):
    cut_depths("van_b0", (1, 1, 1, 1))
    options = options_for(images, 0, custom_hooks=[], frozen_stages=2, **{"train_cfg.max_epochs": 1})
    cfg = load_config(RECIPE, options | {"optim_wrapper.paramwise_cfg": paramwise, "param_scheduler.warmup": 0})
    runner = build_training(cfg, tmp_path, device="cpu")
    net = runner.model.backbone
    fixed = sum(p.numel() for module in (net.stem, *net.stages[:2]) for p in module.parameters())
    assert (
        f"{fixed / 1e6:.2g} of {sum(p.numel() for p in net.parameters()) / 1e6:.2g} million" in capsys.readouterr().err
    )
    before = copy.deepcopy(runner.model.state_dict())
    runner.train()
    for name, value in runner.model.state_dict().items():
        frozen = name.startswith(("backbone.stem", "backbone.stages.0", "backbone.stages.1"))
        if frozen or name.endswith("weight"):
            assert torch.equal(value, before[name]) is frozen, name
    held = {id(p) for p in runner.optim_wrapper.optimizer.state}
    assert not held & {id(p) for p in net.stages[:2].parameters()}


def test_dense_models_and_foreign_backbones_freeze():
    for leaf in (UPERNET, RETINANET):
        assert (
            load_config(leaf, {"model.backbone.pretrained": None, "frozen_stages": 1}).model.backbone.frozen_stages == 1
        )
    foreign = dict(_delete_=True, type="ResNet", depth=18, num_stages=4, out_indices=(0, 1, 2, 3))
    channels = {"model.neck.in_channels": [64, 128, 256, 512]}
    channels |= {f"model.data_preprocessor.{name}": [100, 100, 100] for name in ("mean", "std")}
    cfg = load_config(RETINANET, {"model.backbone": foreign, "frozen_stages": 3, **channels})
    assert cfg.model.backbone.frozen_stages == 3
    with pytest.raises(UserError, match="frozen_stages=1: HourglassNet takes no frozen_stages; allowed"):
        lacking = dict(_delete_=True, type="HourglassNet", num_stacks=1)
        load_config(RETINANET, {"model.backbone": lacking, "frozen_stages": 1, **channels})


@pytest.mark.parametrize("value", [9, -2, True, 1.5, "all", [1], 10**30])
def test_other_values_are_refused(value):
    with pytest.raises(UserError, match=r"frozen_stages is .*; allowed: ") as error:
        load_config(UPERNET, {"model.backbone.pretrained": None, "frozen_stages": value})
    assert "\n" not in str(error.value)

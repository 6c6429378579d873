"""Each leaf config builds, fits its name, follows the published recipe, and has no unread key."""

from pathlib import Path

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS

from backbones import list_archs
from ziggurat.engine.config import READ_KEYS, load_config

CONFIGS = Path(__file__).resolve().parent.parent / "classification/configs"
LEAVES = sorted(path for path in CONFIGS.glob("*/*.py") if path.parent.name != "_base_")


@pytest.fixture(params=LEAVES, ids=lambda path: path.stem)
def leaf(request):
    return request.param


def test_every_top_level_key_is_read(leaf):
    unread = set(load_config(leaf)) - READ_KEYS
    assert not unread


def test_the_model_builds_with_the_arch_of_the_name(leaf):
    cfg = load_config(leaf)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    assert model.backbone.arch == max((arch for arch in list_archs() if leaf.stem.startswith(arch)), key=len)
    assert getattr(model, "num_classes", None) == cfg.model.get("num_classes")


def test_leaves_are_short(leaf):
    assert len(leaf.read_text().splitlines()) <= 12


def test_norms_biases_and_layer_scales_do_not_decay():
    cfg = load_config(CONFIGS / "van/van_b0_8xb128_in1k.py")
    model = MODELS.build(cfg.model)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    decays = {name: group["weight_decay"] for group in groups for name in group["names"]}
    assert set(decays) == {name for name, _ in model.named_parameters()}
    for name, param in model.named_parameters():
        assert decays[name] == (0.05 if param.ndim > 1 else 0.0), name
    assert {group["lr"] for group in groups} == {1e-3}

    cfg.optim_wrapper.paramwise_cfg = dict(layer_decay=0.5)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    rates = {name: group["lr"] for group in groups for name in group["names"]}
    assert groups[0]["lr"] == rates["head.fc.weight"] == 1e-3
    assert rates["backbone.stages.3.blocks.1.attn.dw.weight"] == pytest.approx(0.5e-3)
    assert rates["backbone.stem.conv.weight"] == pytest.approx(1e-3 * 0.5**14)

"""Each leaf config builds, fits its name, follows the published recipe, and has no unread key."""

from pathlib import Path

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS

from backbones import list_archs
from engine.config import READ_KEYS, load_config

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


@pytest.mark.parametrize("arch", ["van_b0", "van_b1", "van_b2", "van_b3"])
def test_the_official_recipe(arch):
    cfg = load_config(CONFIGS / f"van/{arch}_8xb128_in1k.py")
    assert cfg.model.backbone.drop_path_rate == {"van_b3": 0.2}.get(arch, 0.1)
    assert cfg.train_dataloader.batch_size == 128
    assert cfg.optim_wrapper.optimizer == dict(type="AdamW", lr=1e-3, weight_decay=0.05)
    warmup, cosine = cfg.param_scheduler
    assert warmup.start_factor * 1e-3 == pytest.approx(1e-6) and warmup.end == 5
    assert cosine.eta_min == 1e-6 and cosine.end == cfg.train_cfg.max_epochs == 300
    assert cfg.model.label_smoothing == 0.1
    assert cfg.model.mixup == dict(mixup_alpha=0.8, cutmix_alpha=1.0, prob=1.0, switch_prob=0.5, mode="batch")
    assert cfg.model.data_preprocessor.random_erasing == dict(probability=0.25, mode="pixel", max_count=1)
    transform = cfg.train_dataloader.dataset.transform
    assert (transform.auto_augment, transform.color_jitter) == ("rand-m9-mstd0.5-inc1", 0.4)
    assert transform.interpolation == "random" and transform.input_size == 224
    assert cfg.val_dataloader.dataset.transform.crop_pct == 0.9


@pytest.mark.parametrize(
    ("leaf", "images", "lr", "start", "warmup", "floor", "repeats"),
    [
        ("hornet/hornet_tiny_7x7_32xb128_in1k", 4096, 4e-3, 0.0, 20, 1e-6, False),
        ("hornet/hornet_tiny_gf_32xb128_in1k", 4096, 4e-3, 0.0, 20, 1e-6, False),
        ("pvig/pvig_small_8xb128_in1k", 1024, 2e-3, 1e-6, 20, 1e-5, True),
        ("vig/vig_small_8xb128_in1k", 1024, 2e-3, 1e-6, 20, 1e-5, True),
        ("vvt/vvt_tiny_8xb128_in1k", 1024, 5e-4 * 1024 / 512, 1e-6, 5, 1e-5, True),
    ],
)
def test_the_recipes_of_the_other_families(leaf, images, lr, start, warmup, floor, repeats):
    """Values of published/recipes.json: hornet_in1k_official, vig_in1k_official, vvt_in1k_official."""
    cfg = load_config(CONFIGS / f"{leaf}.py")
    assert cfg.auto_scale_lr.base_batch_size == images
    assert int(leaf.split("_")[-2].split("xb")[0]) * cfg.train_dataloader.batch_size == images
    assert cfg.optim_wrapper.optimizer == dict(type="AdamW", lr=lr, weight_decay=0.05)
    first, cosine = cfg.param_scheduler
    assert first.end == cosine.begin == warmup and cosine.end == cfg.train_cfg.max_epochs == 300
    assert cosine.eta_min == floor and first.start_factor * lr == pytest.approx(start, abs=1e-8)
    assert (cfg.train_dataloader.sampler.type == "RepeatAugmentation") == repeats
    assert ("custom_hooks" in cfg) == (not leaf.startswith("vvt"))  # averaged weights
    if leaf.startswith("hornet"):
        assert cfg.optim_wrapper.clip_grad.max_norm == (1.0 if "gf" in leaf else 100.0)


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

"""The classification configs against the authors' recipes, field by field, and their learning rates step by step.

``data/recipes.json`` holds what the authors' code and papers say, with sources.
"""

import copy
import json
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import HOOKS, MODELS, PARAM_SCHEDULERS
from PIL import Image
from timm.scheduler import CosineLRScheduler

from backbones import list_archs
from backbones.registry import family_of
from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_training

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "classification/configs"
RECIPES = {
    recipe["id"]: recipe for recipe in json.loads((ROOT / "tests/data/recipes.json").read_text())["classification"]
}
# Which recipe the leaves of each base are compared with. Leaves of archs that the recipe does not name say so on top.
BASES = {
    "van_in1k": "van_in1k_official",
    "van_in1k_paper": "van_in1k_paper",
    "van_in22k": "van_in22k_pretrain",
    "van_in22k_to_in1k": "van_in22k_to_1k_224",
    "van_in22k_to_in1k_384": "van_in22k_to_1k_384",
    "hornet_in1k": "hornet_in1k_official",
    "hornet_in22k": "hornet_in22k_pretrain",
    "hornet_in22k_to_in1k_384": "hornet_in22k_to_1k_384",
    "vig_in1k": "vig_in1k_official",
    "vvt_in1k": "vvt_in1k_official",
    "vvt_cifar100": "vvt_cifar100",
}
# Fields on which a config differs from its recipe. The comment in the recipe's base has the reason.
DEVIATIONS = {("vvt_in1k", "amp"), ("vvt_cifar100", "amp"), ("vig_in1k", "amp")}
# Sources that are silent about a field follow another recipe of the same authors.
SILENT = {
    "van_in1k_paper": "van_in1k_official",
    "hornet_in22k_pretrain": "hornet_in1k_official",
    "hornet_in22k_to_1k_384": "hornet_in1k_official",
    "van_in22k_to_1k_224": "van_in22k_pretrain",
    "van_in22k_to_1k_384": "van_in22k_pretrain",
    "vvt_cifar100": "vvt_in1k_official",
}
LEAVES = sorted(path for path in CONFIGS.glob("*/*.py") if path.parent.name not in ("_base_", "demo", "distill"))
# Fields of a recipe that a config cannot have: where they come from, what follows from others, what is off everywhere.
TEXT = {"id", "family", "variants", "dataset", "from_scratch", "source", "framework", "lr_rule", "note", "details"}
TEXT |= {"nodes", "batch_total_paper", "conflict_with", "applies_to", "no_decay", "layer_scale_init", "dropout"}
TEXT |= {"status", "pretrained", "published_results"}
COMPARED = {"input", "gpus", "batch_per_gpu", "batch_total", "update_freq", "optimizer", "betas", "eps", "lr"}
COMPARED |= {"weight_decay", "schedule", "epochs", "cooldown_epochs", "warmup_epochs", "warmup_lr", "min_lr"}
COMPARED |= {"drop_path", "label_smoothing", "mixup", "cutmix", "mixup_prob", "mixup_switch_prob", "mixup_mode"}
COMPARED |= {"auto_augment", "color_jitter", "random_erasing", "repeated_aug", "train_interpolation", "mean", "std"}
COMPARED |= {"ema", "clip_grad", "amp", "dist_bn", "seed", "head_init_scale", "layer_decay"}


def base_of(leaf):
    return leaf.read_text().split("recipes/")[1].split(".py")[0]


PUBLISHED = [path for path in LEAVES if base_of(path) in BASES]


@cache
def config(leaf):
    return load_config(leaf)


def recipe_of(leaf):
    recipe = RECIPES[BASES[base_of(leaf)]]
    return {**RECIPES.get(SILENT.get(recipe["id"]), {}), **{k: v for k, v in recipe.items() if v is not None}}


def of_arch(value, arch):
    """A recipe's value for an arch. It may depend on the arch, its size ("tiny"), or have a default."""
    if not isinstance(value, dict):
        return value
    size = next((key for key in value if key in arch.split("_")), None)
    return value.get(arch, value.get(size, value.get("default")))


@pytest.fixture(params=PUBLISHED, ids=lambda path: path.stem)
def leaf(request):
    return request.param


def test_every_field_of_a_recipe_is_compared():
    for name in BASES.values():
        assert not set(RECIPES[name]) - TEXT - COMPARED, name


def test_every_arch_has_a_leaf_at_224():
    leaves = [leaf for leaf in LEAVES if leaf.stem.endswith("_in1k") and "in22k" not in leaf.stem]
    assert {config(leaf).model.backbone.arch for leaf in leaves} == set(list_archs())
    sizes = {config(leaf).train_dataloader.dataset.transform.input_size for leaf in leaves}
    assert sizes == {224} and not any(config(leaf).model.backbone.get("pretrained") for leaf in leaves)


def test_every_published_variant_has_its_leaf():
    for base, name in BASES.items():
        built = {config(leaf).model.backbone.arch for leaf in LEAVES if base_of(leaf) == base}
        assert built and set(RECIPES[name]["variants"] or ()) <= built, name


def test_archs_without_a_published_recipe_say_so(leaf):
    arch = config(leaf).model.backbone.arch
    header = leaf.read_text()
    if arch not in recipe_of(leaf)["variants"] and leaf.parent.name != "vvt":
        assert "none was published" in header or "state for the small" in header
    else:
        assert "none was published" not in header


def test_a_config_is_its_recipe(leaf):
    cfg, recipe = config(leaf), recipe_of(leaf)
    arch, base = cfg.model.backbone.arch, base_of(leaf)
    named = arch in recipe["variants"]
    optimizer, train = cfg.optim_wrapper.optimizer, cfg.train_dataloader
    transform, scheduler = train.dataset.transform, cfg.param_scheduler
    counts = cfg.optim_wrapper.get("accumulative_counts", 1)

    assert optimizer == dict(type=recipe["optimizer"], lr=recipe["lr"], weight_decay=recipe["weight_decay"])
    defaults = torch.optim.AdamW([torch.zeros(1)]).defaults
    assert tuple(recipe.get("betas") or defaults["betas"]) == defaults["betas"]
    assert (recipe.get("eps") or defaults["eps"]) == defaults["eps"]
    assert recipe["schedule"].startswith("cosine") and scheduler.type.endswith("CosineLR")
    assert cfg.optim_wrapper.constructor == "ParamGroups"

    gpus, batch = (int(n) for n in next(p for p in leaf.stem.split("_") if "xb" in p).split("xb"))
    if "update_freq" in RECIPES[BASES[base]]:
        assert counts == (of_arch(recipe["update_freq"], arch) or 2)
    if isinstance(recipe.get("gpus"), int):
        assert gpus == recipe["gpus"]
    assert train.batch_size == batch
    if not base.startswith("vvt"):  # its recipe is for 512 images, and the authors do not state how many they took
        assert batch == (of_arch(recipe["batch_per_gpu"], arch) or 64)
        assert gpus * batch * counts == recipe["batch_total"] == cfg.auto_scale_lr.base_batch_size
    else:
        assert recipe["lr_rule"].endswith("/ 512") and cfg.auto_scale_lr.base_batch_size == 512
    assert cfg.auto_scale_lr.enable

    warmup = scheduler.warmup if scheduler.type == "EpochCosineLR" else scheduler.warmup_epochs
    assert (scheduler.epochs, warmup, scheduler.eta_min) == (
        recipe["epochs"],
        recipe["warmup_epochs"],
        recipe["min_lr"],
    )
    assert cfg.train_cfg.max_epochs == recipe["epochs"] + recipe.get("cooldown_epochs", 0)
    if scheduler.type == "EpochCosineLR":
        assert scheduler.warmup_lr == recipe["warmup_lr"]
        assert scheduler.get("lag", 0) == ("lags by one epoch" in recipe.get("details", {}).get("schedule_step", ""))
    else:
        assert scheduler.convert_to_iter_based and scheduler.get("accumulative_counts", 1) == counts

    if named and of_arch(recipe["drop_path"], arch) is not None:
        assert cfg.model.backbone.drop_path_rate == of_arch(recipe["drop_path"], arch)
    clip = of_arch(recipe.get("clip_grad"), arch)
    if clip is not None or named:
        assert (cfg.optim_wrapper.get("clip_grad") or {}).get("max_norm") == clip
    assert cfg.model.label_smoothing == recipe["label_smoothing"]
    mixup = cfg.model.mixup or dict(mixup_alpha=0, cutmix_alpha=0)
    assert (mixup["mixup_alpha"], mixup["cutmix_alpha"]) == (recipe["mixup"], recipe["cutmix"])
    if recipe["mixup"]:
        assert (mixup["prob"], mixup["switch_prob"]) == (
            recipe.get("mixup_prob", 1.0),
            recipe.get("mixup_switch_prob", 0.5),
        )
        assert mixup["mode"] == recipe.get("mixup_mode", "batch")
    assert transform.auto_augment == of_arch(recipe["auto_augment"], arch)
    assert transform.color_jitter == recipe["color_jitter"]
    erasing, wanted = cfg.model.data_preprocessor.random_erasing, recipe["random_erasing"]
    assert erasing == dict(probability=wanted["prob"], mode=wanted["mode"], max_count=wanted["count"])
    assert transform.interpolation == recipe["train_interpolation"]
    assert transform.input_size == recipe["input"]
    if cfg.val_dataloader is not None:
        assert cfg.val_dataloader.dataset.transform.input_size == recipe["input"]
    assert (train.sampler.type == "RepeatAugmentation") == bool(recipe.get("repeated_aug"))
    if recipe.get("mean"):
        assert list(cfg.model.data_preprocessor.mean) == list(transform.mean) == recipe["mean"]
        assert list(cfg.model.data_preprocessor.std) == recipe["std"]

    hooks = {hook.type: hook for hook in cfg.get("custom_hooks") or []}
    assert ("EMAHook" in hooks) == recipe["ema"]["enabled"]
    if "EMAHook" in hooks:
        decay = recipe["ema"].get("decay") or RECIPES["van_in1k_official"]["ema"]["decay_if_enabled"]
        assert hooks["EMAHook"].momentum == pytest.approx(1 - decay) and hooks["EMAHook"].update_buffers
        assert hooks["EMAHook"].get("interval", 1) == counts and "RawMetricsHook" in hooks
    averaged = recipe.get("dist_bn") == "reduce" or "not averaged" not in recipe.get("details", {}).get("dist_bn", "")
    assert (hooks.get("BuffersHook", {}).get("take", "mean") == "mean") == averaged
    assert cfg.optim_wrapper.type == "OptimWrapper"
    mixed = "off" not in recipe.get("amp", "off")
    assert mixed == ((base, "amp") in DEVIATIONS)
    if recipe.get("seed") is not None:
        assert cfg.randomness.seed == recipe["seed"]
    assert cfg.model.get("head_init_scale", 1.0) == recipe.get("head_init_scale", 1.0)
    decay = recipe.get("layer_decay", 1.0)
    paramwise = cfg.optim_wrapper.get("paramwise_cfg") or {}
    if isinstance(decay, dict):
        assert paramwise == dict(layer_decay=decay["rate"], num_layers=decay["num_layers"])
    else:
        assert paramwise.get("layer_decay", 1.0) == decay
    if "from ImageNet-22K" in recipe["dataset"]:
        assert cfg.model.backbone.pretrained == f"{arch}.in22k"


# The authors' schedules, written out again from their sources: rates of every step.


def timm_rates(lr, epochs, warmup, warmup_lr, min_lr, cooldown, lag, length):
    """timm's train.py, which steps its schedule once an epoch."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    schedule = CosineLRScheduler(
        torch.optim.SGD([parameter], lr), t_initial=epochs, lr_min=min_lr, warmup_t=warmup, warmup_lr_init=warmup_lr
    )
    rates = [schedule.optimizer.param_groups[0]["lr"]] * length
    for epoch in range(epochs + cooldown - 1):
        schedule.step(epoch + 1 - lag)
        rates += [schedule.optimizer.param_groups[0]["lr"]] * length
    return rates


def convnext_rates(lr, epochs, warmup, min_lr, steps):
    """ConvNeXt's cosine_scheduler, as HorNet's utils.py has it."""
    rising = np.linspace(0, lr, warmup * steps) if warmup else np.array([])
    left = np.arange(epochs * steps - warmup * steps)
    falling = [min_lr + 0.5 * (lr - min_lr) * (1 + math.cos(math.pi * i / len(left))) for i in left]
    return [*rising, *falling]


SHORT = dict(epochs=7, warmup=3, length=4)  # an imitation: 7 epochs of 4 batches, 3 of warm-up where there is one


def drawn_rates(cfg, length, epochs, counts):
    """The rates at which the optimiser of a config steps, and those of a group at half the rate."""
    lr = cfg.optim_wrapper.optimizer.lr
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.AdamW([dict(params=parameters[:1]), dict(params=parameters[1:], lr=lr / 2)], lr=lr)
    wrapper = OptimWrapper(optimizer, accumulative_counts=counts)
    scheduler = PARAM_SCHEDULERS.build(cfg.param_scheduler, default_args=dict(optimizer=wrapper, epoch_length=length))
    rates, halves = [], []
    for _ in range(epochs):
        for batch in range(length):
            if (batch + 1) % counts == 0:
                rates.append(optimizer.param_groups[0]["lr"])
                halves.append(optimizer.param_groups[1]["lr"])
            optimizer.step()
            if not scheduler.by_epoch:
                scheduler.step()
        if scheduler.by_epoch:
            scheduler.step()
    return rates, halves


@pytest.mark.parametrize("base", BASES)
def test_rates_are_the_authors(base):
    leaf = next(path for path in PUBLISHED if base_of(path) == base)
    cfg, recipe = copy.deepcopy(config(leaf)), recipe_of(leaf)
    schedule, epochs, length = cfg.param_scheduler, SHORT["epochs"], SHORT["length"]
    counts = cfg.optim_wrapper.get("accumulative_counts", 1)
    warmup = SHORT["warmup"] if recipe["warmup_epochs"] else 0
    cooldown = 2 if recipe.get("cooldown_epochs") else 0
    schedule.epochs = epochs
    if schedule.type == "EpochCosineLR":
        schedule.warmup = warmup
        lag = "lags by one epoch" in recipe.get("details", {}).get("schedule_step", "")
        wanted = timm_rates(
            recipe["lr"], epochs, warmup, recipe["warmup_lr"], recipe["min_lr"], cooldown, int(lag), length
        )
    else:
        schedule.warmup_epochs = warmup
        wanted = convnext_rates(recipe["lr"], epochs, warmup, recipe["min_lr"], length // counts)
    rates, halves = drawn_rates(cfg, length, epochs + cooldown, counts)
    np.testing.assert_allclose(rates, wanted, rtol=1e-12, atol=1e-18)
    np.testing.assert_allclose(halves, np.array(wanted) / 2, rtol=1e-12, atol=1e-18)


@pytest.mark.parametrize("arch", list_archs())
def test_every_arch_takes_a_step_of_its_recipe(arch, cut_depths):
    """At full width and with one block a stage: the loss is finite, and every weight has a gradient."""
    leaf = next(path for path in LEAVES if "in22k" not in path.stem and config(path).model.backbone.arch == arch)
    cfg = copy.deepcopy(config(leaf))
    cut_depths(arch, (1,) * len(family_of(arch).ARCHS[arch].depths))
    cfg.model.num_classes = 3
    cfg.model.backbone.drop_path_rate = 0.0
    cfg.optim_wrapper.pop("accumulative_counts", None)
    model = MODELS.build(cfg.model).train()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    logged = model.train_step(dict(inputs=images, data_samples=torch.tensor([0, 2])), wrapper)
    assert bool(logged["loss"].isfinite())
    means = {name: wrapper.optimizer.state[value]["exp_avg"] for name, value in model.named_parameters()}
    assert [name for name, mean in means.items() if not mean.any()] == []  # AdamW's mean of the gradients so far


@HOOKS.register_module(force=True)
class Rates(Hook):
    """Collects the learning rate of every step."""

    def __init__(self):
        self.values = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.values.append(runner.optim_wrapper.optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize("base", ["hornet_in1k", "van_in1k", "vvt_in1k"])
def test_a_run_has_the_rates_of_its_recipe(base, tmp_path, cut_depths):
    """Three epochs of four batches, run by build_training; the first epoch is the warm-up."""
    for split, count in (("train", 8), ("val", 1)):
        for name in ("cat", "dog"):
            for i in range(count // 2 or 1):
                path = tmp_path / "data" / split / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((32, 32, 3), 100, np.uint8)).save(path)
    cut_depths("van_b0", (1, 1, 1, 1))
    leaf = next(path for path in PUBLISHED if base_of(path) == base)
    step = config(leaf).param_scheduler.type == "StepCosineLR"
    options = {
        "data_root": str(tmp_path / "data"),
        "input_size": 32,
        "model.backbone.arch": "van_b0",
        "train_cfg.max_epochs": 3,
        "train_dataloader.batch_size": 2,
        "train_dataloader.sampler": dict(_delete_=True, type="DefaultSampler", shuffle=True),
        "auto_scale_lr.enable": False,
        "param_scheduler.epochs": 3,
        f"param_scheduler.warmup{'_epochs' * step}": 1,
        "custom_hooks": [dict(type="Rates")],
        "default_hooks.checkpoint.interval": -1,
        **{f"{split}_dataloader.num_workers": 0 for split in ("train", "val")},
        **{f"{split}_dataloader.persistent_workers": False for split in ("train", "val")},
    }
    options["optim_wrapper.accumulative_counts"] = 1
    cfg = load_config(leaf, options)
    runner = build_training(cfg, tmp_path / "run", device="cpu")
    runner.train()
    (rates,) = (hook.values for hook in runner.hooks if isinstance(hook, Rates))
    lr, schedule, recipe = cfg.optim_wrapper.optimizer.lr, cfg.param_scheduler, recipe_of(leaf)
    if step:
        wanted = convnext_rates(lr, 3, 1, schedule.eta_min, 4)
    else:
        wanted = timm_rates(lr, 3, 1, recipe["warmup_lr"], recipe["min_lr"], 0, schedule.get("lag", 0), 4)
    assert len(rates) == 12 and max(rates) > 0.9 * min(lr, max(wanted))
    np.testing.assert_allclose(rates, wanted, rtol=1e-12, atol=1e-18)

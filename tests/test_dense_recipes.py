"""The detection and segmentation configs against the authors' recipes, down to the rate of each parameter and step.

``data/dense_results.json`` lists what was published. Every published result has a leaf of the published size.
"""

import copy
import json

import numpy as np
import pytest
import torch
from dense_leaves import METHODS, ROOT, WHOLE_LEAVES, config, model, name_parts
from dense_recipes import DATA, PAPERS, PUBLISHED, RECIPES, REFERENCES, compare, recipe_id, recipe_of, words_of
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS

from backbones.convert import write_state
from backbones.registry import family_of

RESULTS = json.loads((DATA / "dense_results.json").read_text())
ROWS = [row for kind in ("coco_detection", "coco_panoptic", "ade20k") for row in RESULTS[kind]]
# Published results that no leaf can have.
WITHOUT = {("HorNet-L", "Mask2Former"): "a figure of a leaderboard; neither recipe nor kind of filter was published"}
# Sizes that differ from the published ones.
SIZES = {
    "upernet_van_b5_in22k_512x512_160k_ade20k": (
        121.9,
        "117 M leaves 27 M beside the 90 M of B5; B4's heads have 30 M",
    ),
    "semantic_fpn_vvt_small_512x512_40k_ade20k": (29.26, "29.2 in a picture of a table is cut off, not rounded"),
    "semantic_fpn_vvt_large_512x512_40k_ade20k": (
        65.62,
        "65.5 in a picture of a table; UPerNet with the same VVT fits",
    ),
}


@pytest.fixture(params=PUBLISHED, ids=lambda path: path.stem)
def leaf(request, monkeypatch):
    monkeypatch.chdir(ROOT)
    return request.param


def test_a_leaf_is_its_recipe(leaf):
    compare(leaf, config(leaf), recipe_of(leaf))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['variant']}-{row['method']}-{row['pretrain']}")
def test_a_published_result_has_a_leaf_of_its_size(row):
    if (row["variant"], row["method"]) in WITHOUT:
        assert not leaves_of(row)
        return
    assert leaves_of(row)
    for path in leaves_of(row):
        assert path in PUBLISHED
        size = row.get("params_m")
        if size:
            count = sum(param.numel() for param in model(path).parameters()) / 1e6
            unit = 0.1 if isinstance(size, float) else 1.0
            ours, _ = SIZES.get(path.stem, (size, ""))
            assert count == pytest.approx(ours, abs=0.55 * (0.1 if path.stem in SIZES else unit))


def leaves_of(row):
    """The leaves of a published result."""
    found = []
    for path in WHOLE_LEAVES:
        head, arch, rest = name_parts(path)
        schedule = row.get("schedule", "")[:2]
        same = arch == row["variant"] and words_of(config(path).model.backbone.pretrained) == row["pretrain"]
        same = same and ("panoptic" in row["dataset"]) == (rest[-1] == "panoptic")
        if same and row["method"].startswith(METHODS[head][0]) and (schedule not in ("1x", "3x") or schedule in rest):
            found.append(path)
    return found


def test_every_recipe_has_its_leaves():
    silent = {"vvt_coco", "vig_seg", "van_upernet_mmseg_project"}  # no experiments, or those of another recipe again
    others = {"van_coco_third_party_fcos"}  # without figures, not the authors'
    for name, recipe in RECIPES.items():
        if name in silent | others:
            continue
        built = {name_parts(path)[1] for path in PUBLISHED if recipe_id(path) == name}
        assert built == {row["variant"] if isinstance(row, dict) else row for row in recipe["variants"]}, name


@pytest.mark.parametrize("path", WHOLE_LEAVES, ids=lambda path: path.stem)
def test_leaves_that_nobody_published_say_so(path):
    header = (ROOT / path).read_text().split("_base_")[0]
    assert ("Ours, unpublished" in header) == (path not in PUBLISHED)


DETECTORS = [path for path in PUBLISHED if recipe_id(path) in ("van_coco_paper", "vig_coco")]


@pytest.mark.parametrize("path", DETECTORS, ids=lambda path: path.stem)
def test_swins_values_fill_the_gaps_of_papers(path):
    """VAN's paper names Swin. Its authors' UPerNet gives VAN's drop path. PVTv2's 3x runs have Swin's values."""
    cfg, (head, arch, rest) = config(path), name_parts(path)
    swin, pvt = REFERENCES["swin_det_1x"]["mask_rcnn_1x"], REFERENCES["pvtv2_det"]["cascade_and_gfl_3x"]
    optimizer, (warmup, steps) = cfg.optim_wrapper.optimizer, cfg.param_scheduler
    assert list(optimizer.betas) == swin["betas"] == pvt["betas"]
    assert (optimizer.lr, optimizer.weight_decay) == (swin["lr"], swin["weight_decay"])
    assert cfg.optim_wrapper.paramwise_cfg == dict(custom_keys={"norm": dict(decay_mult=0.0)})
    assert (warmup.end, warmup.start_factor) == (swin["warmup"]["iters"], swin["warmup"]["ratio"])
    assert steps.milestones == (pvt if "3x" in rest else swin)["lr_steps"]
    assert (cfg.train_dataloader.batch_size, cfg.auto_scale_lr.base_batch_size) == (2, 16)
    if path.parent.name == "van":
        rows = RECIPES["van_upernet_160k"]["variants"]
        assert cfg.model.backbone.drop_path_rate == next(row["drop_path"] for row in rows if row["variant"] == arch)
        assert "authors' rate for UPerNet" in path.read_text().replace("\n# ", " ")
    if head in ("retinanet", "atss", "gfl"):  # from stride 8 on, as with start_level=1 of four maps
        side = "on_input" if head == "retinanet" else pvt["gfl_fpn"]["add_extra_convs"]
        assert cfg.model.backbone.out_indices == (1, 2, 3)
        assert (cfg.model.neck.start_level, cfg.model.neck.add_extra_convs, cfg.model.neck.num_outs) == (0, side, 5)


@pytest.mark.parametrize("path", [p for p in PUBLISHED if p.parent.name == "vvt"], ids=lambda path: path.stem)
def test_vvts_settings_are_those_that_the_table_names(path):
    cfg, kind = config(path), "pvt_semfpn" if "semantic_fpn" in path.stem else "swin_upernet"
    named, optimizer = REFERENCES[kind], cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ("AdamW", named["lr"], named["weight_decay"])
    assert cfg.train_cfg.max_iters == named["iterations"] and cfg.auto_scale_lr.base_batch_size == named["batch_total"]
    assert cfg.param_scheduler[-1].power == named["schedule"]["power"] and cfg.model.backbone.drop_path_rate == 0.3
    assert list(cfg.model.data_preprocessor.size) == named["crop"]
    if kind == "swin_upernet":
        assert cfg.optim_wrapper.paramwise_cfg == dict(custom_keys={"norm": dict(decay_mult=0.0)})
        assert named["drop_path"] == 0.3
        assert (cfg.param_scheduler[0].end, cfg.param_scheduler[0].start_factor) == (1500, 1e-6)


# Parameters: the rates and decays that the authors' constructors give, by the names of their code.


def official_names(net):
    """our name of each parameter of a backbone -> its name in the official dense code. Both begin with ``backbone.``"""
    ours = [name for name, _ in net.named_parameters()]
    state = {name: torch.empty(0) for name in ours}
    theirs, left = write_state(net.arch, family_of(net.arch).ARCHS[net.arch], state, "official-seg")
    assert not left and len(theirs) == len(ours)
    return {f"backbone.{name}": f"backbone.{their.removeprefix('backbone.')}" for name, their in zip(ours, theirs)}


def hornets_rule(name, value, rate, num_layers, kind, weight_decay):
    """mmcv_custom/layer_decay_optimizer_constructor.py of raoyongming/HorNet@ac9e210: (scale of the rate, decay)."""
    parts, layers = name.split("."), num_layers + 2
    layer = layers - 1
    if name.startswith("backbone.downsample_layers"):
        layer = 0 if kind == "stage_wise" else {0: 0, 1: 2, 2: 3, 3: 12}[int(parts[2])]
    elif name.startswith("backbone.stages"):
        stage, block = int(parts[2]), int(parts[3])
        layer = stage + 1 if kind == "stage_wise" else {0: 1, 1: 2, 2: min(3 + block // 2, 11), 3: 12}[stage]
    decay = 0.0 if value.ndim == 1 or name.endswith(".bias") else weight_decay
    return rate ** (layers - layer - 1), decay


def groups_of(path):
    """name -> (rate, decay) of every trainable parameter, by the optimiser that the config builds."""
    net = model(path)
    optimizer = build_optim_wrapper(net, copy.deepcopy(config(path).optim_wrapper)).optimizer
    given = {
        id(value): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for value in group["params"]
    }
    return {name: given[id(value)] for name, value in net.named_parameters() if value.requires_grad}


@pytest.mark.parametrize(
    "path",
    [p for p in PUBLISHED if p.parent.name in ("van", "hornet") and "mask2former" not in p.stem],
    ids=lambda p: p.stem,
)
def test_rates_and_decays_of_parameters_are_the_authors(path):
    net, recipe = model(path), recipe_of(path)
    lr, decay = recipe["lr"], recipe["weight_decay"]
    values, rule = dict(net.named_parameters()), recipe.get("layer_decay")
    seen, names = set(), official_names(net.backbone)
    for name, found in groups_of(path).items():
        theirs = names.get(name, name)
        if rule:
            scale, wanted = hornets_rule(theirs, values[name], rule["rate"], rule["num_layers"], rule["type"], decay)
        else:
            undecayed = recipe["id"] != "van_semfpn_40k" and "norm" in theirs
            scale, wanted = 1.0, 0.0 if undecayed else decay
        assert found == (pytest.approx(lr * scale, rel=1e-12), wanted), name
        seen.add(wanted)
    assert seen == ({decay} if recipe["id"] == "van_semfpn_40k" else {0.0, decay})


@pytest.mark.parametrize("path", [p for p in PUBLISHED if "mask2former" in p.stem], ids=lambda path: path.stem)
def test_mask2formers_rates_are_mmdetections(path):
    """configs/mask2former of mmdetection: a tenth of the rate for the backbone, no decay for embeddings and norms."""
    cfg, norms = config(path), 0
    for name, (lr, decay) in groups_of(path).items():
        inside = name.startswith("backbone.")
        is_norm = "norm" in name or ".gn." in name
        norms += is_norm and inside
        embedding = name.split(".")[1] in ("query_embed", "query_feat", "level_embed")
        assert (lr, decay) == (pytest.approx(1e-5 if inside else 1e-4), 0.0 if is_norm or embedding else 0.05), name
    assert norms and cfg.optim_wrapper.clip_grad.max_norm == 0.01
    schedule, iters = cfg.param_scheduler[0], cfg.train_cfg.max_iters
    assert (schedule.end, schedule.milestones) == (iters, [327778, 355092])
    assert [round(one / iters, 3) for one in schedule.milestones] == [0.889, 0.963]  # as 44.4 and 48.1 of 50 epochs
    assert cfg.train_cfg.dynamic_intervals == [(365001, iters)]  # the last validation is at the end


# Schedules, written out again from mmcv 1.x: LrUpdaterHook, StepLrUpdaterHook, PolyLrUpdaterHook.

LENGTH, WARMUP, TOTAL = 30, 50, 400  # of the imitation: batches an epoch, batches of warm-up, batches of the run


def published_rates(lr, poly, steps, epochs, warmup):
    total = epochs * LENGTH if steps else TOTAL
    rates = []
    for i in range(total + 1):
        rate = lr * (1 - i / total) ** poly if poly else lr * 0.1 ** sum(i // LENGTH >= step for step in steps)
        if warmup is not None and i < WARMUP:
            rate *= 1 - (1 - i / WARMUP) * (1 - warmup)
        rates.append(rate)
    return np.array(rates)


def drawn_rates(cfg, epochs):
    """The rates at which a config's optimiser steps, of a group at its rate and one at half of it."""
    lr = cfg.optim_wrapper.optimizer.lr
    values = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.AdamW([dict(params=values[:1]), dict(params=values[1:], lr=lr / 2)], lr=lr)
    wrapper, schedules = OptimWrapper(optimizer), []
    for part in copy.deepcopy(cfg.param_scheduler):
        if part.type == "LinearLR":
            part.end = WARMUP
        elif part.type == "PolyLR":
            part.end = TOTAL
        schedules.append(PARAM_SCHEDULERS.build(part, default_args=dict(optimizer=wrapper)))
    rates = []
    for i in range(epochs * LENGTH if epochs else TOTAL):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        for schedule in schedules:
            if not schedule.by_epoch or (i + 1) % LENGTH == 0:
                schedule.step()
    return np.array(rates).T


BY_RECIPE = {(recipe_id(path), "3x" in path.stem): path for path in PUBLISHED if "mask2former" not in path.stem}


@pytest.mark.parametrize("path", BY_RECIPE.values(), ids=lambda path: path.stem)
def test_rates_are_the_authors_within_a_step(path):
    """mmengine's schedules end one step earlier than mmcv's, so a factor lies between two that follow each other."""
    cfg, recipe = config(path), recipe_of(path)
    poly = cfg.param_scheduler[-1].get("power")
    epochs = 0 if poly else {True: 36, False: 12}["3x" in path.stem]
    steps = () if poly else cfg.param_scheduler[-1].milestones
    warmup = cfg.param_scheduler[0].start_factor if len(cfg.param_scheduler) == 2 else None
    if recipe["id"] not in PAPERS:
        assert (warmup is None) == (recipe["warmup"] is None)
    rates, halves = drawn_rates(cfg, epochs)
    wanted = published_rates(cfg.optim_wrapper.optimizer.lr, poly, steps, epochs, warmup)
    allowed = np.abs(np.diff(wanted)) + 1e-12
    if warmup is not None:
        allowed[:WARMUP] += cfg.optim_wrapper.optimizer.lr / WARMUP
    np.testing.assert_array_less(np.abs(rates - wanted[:-1]), allowed)
    np.testing.assert_allclose(halves, rates / 2, rtol=1e-12)
    if steps:
        np.testing.assert_allclose(rates[WARMUP:], wanted[WARMUP:-1], rtol=1e-12)

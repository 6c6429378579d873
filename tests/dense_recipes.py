"""Recipes of detection and segmentation: which one belongs to a leaf, and what each of its fields means in a config.

``data/recipes.json`` holds what the authors' code and papers say, with sources.
"""

import copy
import json

import numpy as np
import pytest
import torch
from dense_leaves import METHODS, ROOT, WHOLE_LEAVES, model, name_parts

from backbones.registry import family_of

DATA = ROOT / "tests/data"
CONTENT = json.loads((DATA / "recipes.json").read_text())
RECIPES = {recipe["id"]: recipe for kind in ("detection", "segmentation", "other_tasks") for recipe in CONTENT[kind]}
REFERENCES = {recipe["id"]: recipe for recipe in CONTENT["reference_recipes"]}
# (family, head) of a leaf's name -> its recipe. HorNet's Mask R-CNN has one for each neck.
IDS = {
    ("hornet", "cascade_mask_rcnn"): "hornet_cascade_3x",
    ("hornet", "mask_rcnn"): "hornet_maskrcnn_1x_horfpn_{neck}",
    ("hornet", "upernet"): "hornet_upernet_160k",
    ("hornet", "gn_upernet_7x7"): "hornet_gnuperhead_7x7",
    ("hornet", "gn_upernet_gf"): "hornet_gnuperhead_gf",
    ("van", "upernet"): "van_upernet_160k",
    ("van", "semantic_fpn"): "van_semfpn_40k",
    ("van", "light_ham"): "van_light_ham_160k",
    ("van", "hamnet"): "van_hamnet_160k",
    ("van", "mask2former"): "van_panoptic_paper",
    ("vvt", "semantic_fpn"): "vvt_ade20k",
    ("vvt", "upernet"): "vvt_ade20k",
} | {
    (family, head): name
    for family, name in (("van", "van_coco_paper"), ("pvig", "vig_coco"))
    for head in ("mask_rcnn", "cascade_mask_rcnn", "retinanet", "atss", "gfl")
}
# Recipes from papers alone are silent about much. There null means "not stated", elsewhere "none".
PAPERS = {"van_coco_paper", "vig_coco", "vvt_ade20k", "van_panoptic_paper"}
SILENT = {"hornet_gnuperhead_7x7": "hornet_upernet_160k", "hornet_gnuperhead_gf": "hornet_upernet_160k"}
# Fields of a recipe that a config cannot have, or that follow from others.
TEXT = {"id", "family", "source", "status", "framework", "note", "details", "config", "variant", "variants", "dataset"}
TEXT |= {"published_result", "task", "detectors", "num_layers", "no_decay", "dataset_repeat"}
AUGMENTATION = [
    dict(type="RandomResize", scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(512, 512), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
]
SHORT_SIDES = [(side, 1333) for side in (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)]
DETR = [
    [dict(type="RandomChoiceResize", scales=SHORT_SIDES, keep_ratio=True)],
    [
        dict(type="RandomChoiceResize", scales=[(400, 1333), (500, 1333), (600, 1333)], keep_ratio=True),
        dict(type="RandomCrop", crop_type="absolute_range", crop_size=(384, 600), allow_negative_crop=True),
        dict(type="RandomChoiceResize", scales=SHORT_SIDES, keep_ratio=True),
    ],
]
UPER = dict(type="UPerHead", channels=512, pool_scales=(1, 2, 3, 6), dropout_ratio=0.1, align_corners=False)
FCN = dict(type="FCNHead", in_index=2, channels=256, num_convs=1, concat_input=False, dropout_ratio=0.1)
HAM = dict(channels=512, ham_kwargs=dict(MD_R=64), dropout_ratio=0.1, align_corners=False)
GN32 = dict(type="GN", num_groups=32, requires_grad=True)
GATED = "gnconv order 2, kernel 7, proj_out"
# The sources' words for parts of a model -> the part's key, and what it must contain.
PARTS = {
    "UPerHead channels 512, pool scales 1 2 3 6, dropout 0.1, no align_corners": {"decode_head": UPER},
    "FCNHead on stage 3, channels 256, 1 conv, loss weight 0.4, dropout 0.1": {"auxiliary_head": FCN},
    "FCNHead on stage 3, channels 256, 1 conv, GroupNorm 32, loss weight 0.4, dropout 0.1": {
        "auxiliary_head": FCN | {"norm_cfg": GN32}
    },
    "FPN 256 + FPNHead channels 128, dropout 0.1": {
        "neck": dict(type="FPN", out_channels=256, num_outs=4),
        "decode_head": dict(type="FPNHead", channels=128, dropout_ratio=0.1, feature_strides=[4, 8, 16, 32]),
    },
    "LightHamHead on stages 2 to 4, channels 512, ham channels 512 (B0: 480), 64 factors, 6 and 7 steps, GroupNorm 32, "
    "dropout 0.1, no align_corners": {
        "decode_head": HAM | dict(type="LightHamHead", in_index=[1, 2, 3], norm_cfg=GN32)
    },
    "HamHead on stage 4, channels 512, ham channels 512, 64 factors, 6 and 7 steps, GroupNorm 32, dropout 0.1, no "
    "align_corners": {"decode_head": HAM | dict(type="HamHead", in_index=3, ham_channels=512, norm_cfg=GN32)},
    GATED: {"decode_head": dict(UPER, type="GNUPerHead", order=2)},
    "gngf order 2, proj_out": {"decode_head": dict(UPER, type="GNUPerHead", order=2, filter_size=(32, 17))},
    "FPN (baseline)": {"neck": dict(type="FPN", out_channels=256, num_outs=5)},
    "HorFPN: GNFPN with gnconv order 2, kernel 7, proj_out": {"neck": dict(type="HorFPN", order=2)},
    "HorFPN: GNFPN with global-filter gnconv (gngf)": {"neck": dict(type="HorFPN", order=2, filter_size=(32, 17))},
}


def recipe_id(path):
    head, _, rest = name_parts(path)
    neck = "_".join(rest[:-2]).removeprefix("horfpn_")
    if head == "mask2former" and rest[-1] != "panoptic":
        return ""
    return IDS.get((path.parent.name, head), "").format(neck=neck)


def recipe_of(path):
    """The recipe of a leaf, with the fields of its variant, or None for a leaf that nobody published."""
    name, (_, arch, rest) = recipe_id(path), name_parts(path)
    recipe = RECIPES.get(name)
    if recipe is None or (name in PAPERS and "3x" in rest and arch != "van_b2"):  # 36 epochs of B2 alone
        return None
    pretrain = "ImageNet-22K" if "in22k" in rest else "ImageNet-1K"
    rows = [row for row in recipe["variants"] if isinstance(row, dict)]
    matching = [row for row in rows if row["variant"] == arch and row["pretrain"] == pretrain]
    if not matching and (rows or arch not in recipe["variants"]):
        return None
    whole = {**RECIPES.get(SILENT.get(name), {}), **recipe, **(matching[0] if matching else {})}
    if matching and isinstance(matching[0].get("layer_decay"), float):  # the variant's rate, by the recipe's rule
        whole["layer_decay"] = recipe["layer_decay"] | {"rate": matching[0]["layer_decay"]}
        whole["layer_decay"]["num_layers"] = matching[0].get("num_layers", recipe["layer_decay"].get("num_layers"))
    return whole


PUBLISHED = [path for path in WHOLE_LEAVES if recipe_of(path)]


def contains(part, wanted):
    return all(part[key] == value for key, value in wanted.items())


def step(pipeline, kind):
    return next(one for one in pipeline if one["type"] == kind)


def check_parts(cfg, words):
    for key, wanted in PARTS[words].items():
        part = cfg.model[key]
        assert contains(part, {k: v for k, v in wanted.items() if k != "type"}) and part.type.endswith(wanted["type"])


def check_box_heads(cfg, words):
    heads = cfg.model.roi_head.bbox_head
    if words == "Shared2FC, L1":
        assert heads.type == "Shared2FCBBoxHead" and heads.loss_bbox == dict(type="L1Loss", loss_weight=1.0)
        return
    assert words.startswith("3 x ConvFC (4 shared conv, 1 fc), SyncBN, GIoU weight 10, reg_decoded_bbox True, class-sp")
    stds = [[0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067]]
    for head, std in zip(heads, stds, strict=True):
        wanted = dict(type="ConvFCBBoxHead", num_shared_convs=4, num_shared_fcs=1, fc_out_channels=1024)
        assert contains(head, wanted | dict(reg_class_agnostic=False, reg_decoded_bbox=True))
        assert head.norm_cfg.type == "BN" and cfg.sync_bn == "torch"
        assert head.loss_bbox == dict(type="GIoULoss", loss_weight=10.0) and head.bbox_coder.target_stds == std


def check_test(cfg, test, recipe):
    pipeline = cfg.val_dataloader.dataset.pipeline
    assert cfg.model.test_cfg.mode == test["mode"]
    scale = tuple(test.get("scale") or recipe.get("image_scale") or (2048, 512))
    assert step(pipeline, "Resize").scale == scale and step(pipeline, "Resize").keep_ratio
    multiples = [one.size_divisor for one in pipeline if one.type == "ResizeToMultiple"]
    assert multiples == ([test["resize_to_multiple"]] if test.get("resize_to_multiple") else [])
    slide = recipe.get("test_slide") or (test if test["mode"] == "slide" else {})
    if slide:
        assert [list(cfg.model.test_cfg[key]) for key in ("crop_size", "stride")] == [slide["crop"], slide["stride"]]
    if "ms_ratios" in test:
        augmented = step(cfg.tta_pipeline, "TestTimeAug").transforms
        scales = [(int(scale[0] * ratio), int(scale[1] * ratio)) for ratio in test["ms_ratios"]]
        assert [one.scale for one in augmented[0]] == scales
        assert any([one.get("prob") for one in group] == [0.0, 1.0] for group in augmented) == test["flip_in_ms"]
        assert any(group[0].type == "ResizeToMultiple" for group in augmented) == bool(multiples)


def check_norm(cfg, words):
    assert words == "SyncBN (backbone blocks and heads), LayerNorm eps 1e-5 at stage outputs"
    # The eps follows the weights instead, and the recipe's base says so: another arch may take the config's place.
    assert cfg.sync_bn == "torch" and "norm_eps" not in cfg.model.backbone
    assert "the authors' code has 1e-5" in (ROOT / "segmentation/configs/_base_/recipes/van_upernet.py").read_text()
    assert {cfg.model[head].norm_cfg.type for head in ("decode_head", "auxiliary_head")} == {"BN"}


def check_layer_decay(cfg, rule):
    paramwise = cfg.optim_wrapper.get("paramwise_cfg") or {}
    if rule is None:
        assert "layer_decay" not in paramwise
        return
    wanted = dict(layer_decay=rule["rate"], num_layers=rule["num_layers"])
    if rule["type"] == "stage_wise":
        wanted["decay_type"] = "stage_wise"
    if "quirk" in rule:
        wanted["last_layer"] = 12
    assert paramwise == wanted and cfg.optim_wrapper.constructor == "ParamGroups"


def check_schedule(cfg, rule):
    last = cfg.param_scheduler[-1]
    assert (last.type, last.power, last.eta_min) == ("PolyLR", rule["power"], rule["min_lr"])
    assert last.begin == 0 and last.end == cfg.train_cfg.max_iters


def check_warmup(cfg, rule):
    first = cfg.param_scheduler[0]
    if rule is None:
        assert len(cfg.param_scheduler) == 1
    else:
        assert (first.type, first.begin, first.end) == ("LinearLR", 0, rule["iters"])
        assert first.start_factor == rule["ratio"] and not first.by_epoch


def check_multi_scale(cfg, words, path):
    pipeline = cfg.train_dataloader.dataset.pipeline
    if isinstance(words, dict):
        words = words["3x" if "_3x_" in path.name else "1x"]
    if words is None:
        assert step(pipeline, "Resize").scale == (1333, 800)
        return
    assert words.startswith(("short side 480..800 step 32, long side 1333; 50% branch", "yes (details not given)"))
    steps = [one for one in pipeline if one.type not in ("LoadImageFromFile", "LoadAnnotations", "PackDetInputs")]
    assert steps == [dict(type="RandomFlip", prob=0.5), dict(type="RandomChoice", transforms=DETR)]


def check_crop(cfg, crop, recipe):
    assert list(step(cfg.train_dataloader.dataset.pipeline, "RandomCrop").crop_size) == crop
    assert list(cfg.model.data_preprocessor.size) == crop
    if "image_scale" in recipe:
        assert list(step(cfg.train_dataloader.dataset.pipeline, "RandomResize").scale) == recipe["image_scale"]


def check_augmentation(cfg, words, recipe):
    if "large-scale" in words:
        resize, crop = (step(cfg.train_dataloader.dataset.pipeline, kind) for kind in ("RandomResize", "RandomCrop"))
        assert (resize.scale, resize.ratio_range, crop.crop_size) == ((1024, 1024), (0.1, 2.0), (1024, 1024))
        return
    assert "ratio 0.5-2.0, random crop cat_max_ratio 0.75, flip 0.5, photometric distortion" in words
    wanted = copy.deepcopy(AUGMENTATION)
    wanted[0]["scale"] = tuple(recipe.get("image_scale", (2048, 512)))
    wanted[1]["crop_size"] = tuple(recipe["crop"])
    steps = [one for one in cfg.train_dataloader.dataset.pipeline if one.type.startswith(("Random", "Photo"))]
    assert steps == wanted


def max_norm(cfg):
    return (cfg.optim_wrapper.get("clip_grad") or {}).get("max_norm")


def check_epochs(cfg, epochs, path):
    if isinstance(epochs, dict):
        epochs = epochs["3x" if "_3x_" in path.name else "1x"]
    if cfg.train_cfg.get("max_epochs"):
        assert cfg.train_cfg.max_epochs == epochs
    else:  # COCO's 118,287 images, 16 a step
        assert cfg.train_cfg.max_iters * 16 / 118287 == pytest.approx(epochs, rel=0.005)


def check_batch(cfg, images):
    assert 8 * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == images


def filters(cfg):
    """Sizes of the global filters of stages 3 and 4, or None."""
    row = family_of(cfg.model.backbone.arch).ARCHS[cfg.model.backbone.arch]
    sizes = [size and list(size) for size in cfg.model.backbone.get("filter_sizes") or row.filters]
    assert sizes[:2] == [None, None]
    return sizes[2:] if any(sizes) else None


def words_of(pretrained):
    """``"ImageNet-1K"`` for ``"van_b0.in1k"``."""
    return {"in1k": "ImageNet-1K", "in22k": "ImageNet-22K"}[pretrained.partition(".")[2]]


BETAS = torch.optim.AdamW([torch.zeros(1)]).defaults["betas"]
# Fields that are compared with a value of the config.
FOUND = {
    "optimizer": lambda cfg: cfg.optim_wrapper.optimizer.type,
    "lr": lambda cfg: cfg.optim_wrapper.optimizer.lr,
    "weight_decay": lambda cfg: cfg.optim_wrapper.optimizer.weight_decay,
    "betas": lambda cfg: list(cfg.optim_wrapper.optimizer.get("betas", BETAS)),
    "gpus": lambda cfg: cfg.auto_scale_lr.base_batch_size // cfg.train_dataloader.batch_size,
    "batch_per_gpu": lambda cfg: cfg.train_dataloader.batch_size,
    "iterations": lambda cfg: cfg.train_cfg.get("max_iters"),
    "lr_steps": lambda cfg: cfg.param_scheduler[-1].milestones,
    "lr_schedule": lambda cfg: {"MultiStepLR": "step"}[cfg.param_scheduler[-1].type],
    "grad_clip": max_norm,
    "grad_clip_max_norm": max_norm,
    "flip": lambda cfg: step(cfg.train_dataloader.dataset.pipeline, "RandomFlip").prob,
    "test_scale": lambda cfg: list(step(cfg.val_dataloader.dataset.pipeline, "Resize").scale),
    "pad_divisor": lambda cfg: cfg.model.data_preprocessor.get("pad_size_divisor"),
    "mean": lambda cfg: pytest.approx(list(cfg.model.data_preprocessor.mean)),
    "std": lambda cfg: pytest.approx(list(cfg.model.data_preprocessor.std)),
    "drop_path": lambda cfg: cfg.model.backbone.drop_path_rate,
    "pretrain": lambda cfg: words_of(cfg.model.backbone.pretrained),
    "global_filter_hw": filters,
    "queries": lambda cfg: cfg.model.panoptic_head.num_queries,
}
# Fields that need more: functions of the config, the field's value, the recipe and the leaf's path.
CHECKS = {
    "batch_total": lambda cfg, value, recipe, path: check_batch(cfg, value),
    "epochs": lambda cfg, value, recipe, path: check_epochs(cfg, value, path),
    "schedule": lambda cfg, value, recipe, path: check_schedule(cfg, value),
    "warmup": lambda cfg, value, recipe, path: check_warmup(cfg, value),
    "multi_scale": lambda cfg, value, recipe, path: check_multi_scale(cfg, value, path),
    "layer_decay": lambda cfg, value, recipe, path: check_layer_decay(cfg, value),
    "amp": lambda cfg, value, recipe, path: check_precision(cfg, value),
    "fpn": lambda cfg, value, recipe, path: check_fpn(cfg, value),
    "frozen_bn": lambda cfg, value, recipe, path: check_nothing_is_frozen(cfg, value),
    "gradient_checkpointing": lambda cfg, value, recipe, path: check_recomputed(cfg, value),
    "crop": lambda cfg, value, recipe, path: check_crop(cfg, value, recipe),
    "augmentation": lambda cfg, value, recipe, path: check_augmentation(cfg, value, recipe),
    "test": lambda cfg, value, recipe, path: check_test(cfg, value, recipe),
    "strides": lambda cfg, value, recipe, path: check_strides(path, value),
    "norm": lambda cfg, value, recipe, path: check_norm(cfg, value),
    "bbox_head": lambda cfg, value, recipe, path: check_box_heads(cfg, value),
    "method": lambda cfg, value, recipe, path: check_method(path, value),
    **dict.fromkeys(
        ("head", "aux_head", "head_conv", "neck"), lambda cfg, value, recipe, path: check_parts(cfg, value)
    ),
}
TEXT |= {"image_scale", "test_slide"}  # read by the checks of "crop" and "test"


def check_precision(cfg, value):
    assert not value and cfg.optim_wrapper.type == "OptimWrapper"


def check_fpn(cfg, value):
    assert (cfg.model.neck.out_channels, cfg.model.neck.num_outs) == (value["channels"], value["num_outs"])


def check_nothing_is_frozen(cfg, words):
    assert words.startswith("not applicable")
    assert cfg.model.backbone.get("frozen_stages", -1) == -1 and not cfg.model.backbone.get("norm_eval", False)


def check_recomputed(cfg, archs):
    assert cfg.model.backbone.get("grad_checkpointing", False) == archs.get(cfg.model.backbone.arch, False)


def check_strides(path, strides):
    assert list(model(path).backbone.STRIDES) == np.cumprod(strides).tolist()


def check_method(path, words):
    assert METHODS[name_parts(path)[0]][0].split(",")[0] in words


def compare(path, cfg, recipe):
    """Asserts that a leaf's config is its recipe. A field that no check knows raises KeyError."""
    arch = name_parts(path)[1]
    for field, value in recipe.items():
        if field in TEXT or (value is None and recipe["id"] in PAPERS):
            continue
        if field in CHECKS:
            CHECKS[field](cfg, value, recipe, path)
        else:
            wanted = value[arch] if isinstance(value, dict) else value
            assert FOUND[field](cfg) == wanted, field

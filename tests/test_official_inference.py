"""Official inference settings: the Predictor's answers are those of mm's own inference on the same weights.

mm's side is written down from the published settings: its own loading, resizing, statistics, windows and thresholds.
All lengths are an eighth of the published ones, on both sides, so that a pass takes a moment.
"""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import small_heads
import torch
from mmcv.transforms import LoadImageFromFile
from mmdet.apis import inference_detector
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose
from mmseg.apis import inference_model
from PIL import Image

from backbones.weights import statistics
from ziggurat import engine
from ziggurat.engine.config import load_config
from ziggurat.engine.tasks import task_for

ROOT = Path(__file__).resolve().parent.parent
RECIPES = ROOT.parent / "shared/published/recipes.json"
IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
SHRINK = 8
HOR = "hornet_tiny_7x7"
SEMANTIC = small_heads.SEGMENTERS["semantic_fpn"][1]
RCNN = dict(  # of mmdet's Mask R-CNN and Cascade, which HorNet's authors kept
    rpn=dict(nms_pre=1000, max_per_img=1000, nms=dict(type="nms", iou_threshold=0.7), min_bbox_size=0),
    rcnn=dict(score_thr=0.05, nms=dict(type="nms", iou_threshold=0.5), max_per_img=100, mask_thr_binary=0.5),
)
# The leaf, its arch, the options of the small head, and for segmenters the recipe's id; None: no test is published.
DETECTORS = {
    "hornet_cascade": ("hornet/cascade_mask_rcnn_hornet_tiny_7x7_fpn_3x_coco", HOR, small_heads.THREE),
    "pvig_mask_rcnn": ("pvig/mask_rcnn_pvig_small_fpn_1x_coco", "pvig_small", small_heads.ONE),
}
SEGMENTERS = {
    "hornet_upernet_512": (
        "hornet/upernet_hornet_tiny_7x7_512x512_160k_ade20k",
        HOR,
        small_heads.UPER,
        "hornet_upernet_160k",
    ),
    "hornet_upernet_640": (
        "hornet/upernet_hornet_large_7x7_in22k_640x640_160k_ade20k",
        HOR,  # in the recipe of the large one
        small_heads.UPER,
        "hornet_upernet_160k",
    ),
    "van_upernet": ("van/upernet_van_b0_512x512_160k_ade20k", "van_b0", small_heads.UPER, "van_upernet_160k"),
    "van_semantic_fpn": ("van/semantic_fpn_van_b0_512x512_40k_ade20k", "van_b0", SEMANTIC, "van_semfpn_40k"),
    "van_hamnet": ("van/hamnet_van_b0_512x512_160k_ade20k", "van_b0", small_heads.SEGMENTERS["hamnet"][1], None),
    "vvt_semantic_fpn": ("vvt/semantic_fpn_vvt_small_512x512_40k_ade20k", "vvt_small", SEMANTIC, "pvt_semfpn"),
}


@pytest.fixture(autouse=True)
def shallow_at_root(monkeypatch, cut_depths, request):
    monkeypatch.chdir(request.config.rootpath)
    for arch in ("van_b0", HOR, "pvig_small", "vvt_small"):
        cut_depths(arch, (1, 1, 1, 1))


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(small_heads.image_of(72, 136)).save(path)
    return str(path)


def small(lengths):
    return tuple(round(length / SHRINK) for length in lengths)


def ours(task, leaf, arch, slim, tmp_path):
    """The Predictor of a leaf, and the config, with an eighth of its lengths."""
    slim = {name: value for name, value in slim.items() if "test_cfg" not in name}
    cfg = load_config(
        f"{task}/configs/{leaf}.py",
        {"data_root": "none", "model.backbone.pretrained": None, "model.backbone.arch": arch, **slim},
    )
    for step in cfg.test_dataloader.dataset.pipeline:
        if step["type"] == "Resize":
            step.scale = small(step.scale)
    if cfg.model.get("test_cfg", {}).get("mode") == "slide":
        cfg.model.test_cfg.update({key: small(cfg.model.test_cfg[key]) for key in ("crop_size", "stride")})
    path = tmp_path / "weights.pth"
    state = small_heads.built(cfg).state_dict()
    state |= {key: 5 * value for key, value in state.items() if key.endswith("fc_cls.weight")}  # a few sure objects
    torch.save({"state_dict": state}, path)
    return engine.Predictor(cfg, path), cfg


def theirs(cfg, predictor, preprocessor, test_cfg):
    """mm's model with the same weights, the published statistics and the published test settings."""
    cfg = copy.deepcopy(cfg)
    cfg.model.update(data_preprocessor=preprocessor, test_cfg=test_cfg)
    model = task_for(cfg).build_model(cfg)
    weights = {name: value for name, value in predictor.model.state_dict().items() if "data_preprocessor" not in name}
    assert not model.load_state_dict(weights, strict=False).unexpected_keys
    return model.eval()


@pytest.mark.parametrize("name", DETECTORS)
def test_detectors(name, photo, tmp_path):
    leaf, arch, slim = DETECTORS[name]
    predictor, cfg = ours("detection", leaf, arch, small_heads.ROI | slim, tmp_path)
    mean, std, _ = statistics(arch, None)
    norm = IMAGENET if name.startswith("hornet") else dict(mean=[255 * m for m in mean], std=[255 * s for s in std])
    padding = dict(bgr_to_rgb=True, pad_mask=True, pad_size_divisor=32)
    model = theirs(cfg, predictor, dict(type="DetDataPreprocessor", **norm, **padding), RCNN)
    model.cfg = None
    keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
    steps = [
        dict(type="mmdet.Resize", scale=small((1333, 800)), keep_ratio=True),
        dict(type="mmdet.PackDetInputs", meta_keys=keys),
    ]
    wanted = inference_detector(model, photo, Compose([LoadImageFromFile(), *steps])).pred_instances.numpy()
    found = predictor(photo)
    assert len(found.boxes) > 1
    np.testing.assert_array_equal(found.boxes, wanted.bboxes)
    np.testing.assert_array_equal(found.scores, wanted.scores)
    np.testing.assert_array_equal(found.labels, wanted.labels)
    np.testing.assert_array_equal(found.masks, wanted.masks)


@pytest.mark.skipif(not RECIPES.is_file(), reason="the published recipes are not beside this checkout")
@pytest.mark.parametrize("name", SEGMENTERS)
def test_segmenters(name, photo, tmp_path):
    leaf, arch, slim, recipe = SEGMENTERS[name]
    test, scale = published(recipe, name)
    predictor, cfg = ours("segmentation", leaf, arch, slim, tmp_path)
    mean, std, _ = statistics(arch, None)
    norm = dict(mean=[255 * m for m in mean], std=[255 * s for s in std]) if name.startswith("vvt") else IMAGENET
    preprocessor = dict(
        type="SegDataPreProcessor", **norm, bgr_to_rgb=True, pad_val=0, seg_pad_val=255, size=(512, 512)
    )
    windows = {key: small(test[old]) for key, old in (("crop_size", "crop"), ("stride", "stride")) if old in test}
    model = theirs(cfg, predictor, preprocessor, ConfigDict(mode=test["mode"], **windows))
    divisor = test.get("resize_to_multiple") or test.get("align_resize_divisor")
    steps = [
        dict(type=LoadImageFromFile),
        dict(type="mmseg.Resize", scale=small(scale), keep_ratio=True),
        *([dict(type="mmseg.ResizeToMultiple", size_divisor=divisor)] if divisor else []),
        dict(type="mmseg.PackSegInputs"),
    ]
    model.cfg = Config(dict(test_pipeline=[]))
    model.cfg.test_pipeline.extend(steps)
    torch.manual_seed(0)  # HamNet's head draws random numbers
    wanted = inference_model(model, photo).pred_sem_seg.data[0].numpy()
    torch.manual_seed(0)
    found = predictor(photo).class_map
    assert len(np.unique(found)) > 3
    np.testing.assert_array_equal(found, wanted)


def published(recipe, name):
    """The test settings and the scale of a recipe. HamNet's are the widths of VAN's others, without rounding."""
    recipes = json.loads(RECIPES.read_text())
    known = {one["id"]: one for one in [*recipes["segmentation"], *recipes["reference_recipes"]]}
    if recipe is None:
        return dict(mode="whole"), (2048, 512)
    test = dict(known[recipe]["test"])
    if "hornet" in name:
        crop = [int(name[-3:])] * 2
        variant = next(one for one in known[recipe]["variants"] if one["crop"] == crop)
        return test | variant["test_slide"], variant["image_scale"]
    return test | dict(mode=test["mode"] or "whole"), test["scale"]

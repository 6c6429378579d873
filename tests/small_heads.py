"""Every head of both tasks with random weights, small enough to predict in a moment."""

import copy

import dense_data
import numpy as np
import slim_heads
import torch
from mmengine.dataset import pseudo_collate
from PIL import Image

from ziggurat.engine.config import load_config
from ziggurat.engine.tasks import task_for

HAM = {"model.decode_head.channels": 32, "model.decode_head.ham_channels": 32, "model.decode_head.ham_kwargs.MD_R": 8}
UPER = {"model.decode_head.channels": 32, "model.auxiliary_head.channels": 16}
RARE_SEGMENTERS = {
    "van/light_ham_van_b0_512x512_160k_ade20k": HAM,
    "van/hamnet_van_b0_512x512_160k_ade20k": HAM | {"model.auxiliary_head.channels": 32},
    "hornet/gn_upernet_7x7_hornet_small_7x7_512x512_160k_ade20k": UPER,
}
DENSE = slim_heads.DENSE | {"model.test_cfg.score_thr": 0.0, "model.test_cfg.max_per_img": 8}
ROI = {
    "model.neck.out_channels": 32,
    "model.rpn_head.in_channels": 32,
    "model.rpn_head.feat_channels": 32,
    "model.roi_head.bbox_roi_extractor.out_channels": 32,
    "model.roi_head.mask_roi_extractor.out_channels": 32,
    "model.roi_head.mask_head.in_channels": 32,
    "model.roi_head.mask_head.conv_out_channels": 32,
    "model.test_cfg.rpn.max_per_img": 20,
    "model.test_cfg.rcnn.max_per_img": 8,
    "model.test_cfg.rcnn.score_thr": 0.0,
}
ONE = {"model.roi_head.bbox_head.in_channels": 32, "model.roi_head.bbox_head.fc_out_channels": 32}
THREE = {
    f"model.roi_head.bbox_head.{i}.{name}": 32
    for i in range(3)
    for name in ("in_channels", "conv_out_channels", "fc_out_channels")
}
DETECTORS = {
    "mask_rcnn": ("van/mask_rcnn_van_b0_fpn_1x_coco", ROI | ONE),
    "cascade_mask_rcnn": ("van/cascade_mask_rcnn_van_b2_fpn_3x_coco", ROI | THREE),
    "retinanet": ("van/retinanet_van_b0_fpn_1x_coco", DENSE),
    "atss": ("van/atss_van_b2_fpn_3x_coco", DENSE),
    "gfl": ("van/gfl_van_b2_fpn_3x_coco", DENSE),
    "rtmdet": (
        "van/rtmdet_van_b1_300e_coco",
        slim_heads.DETECTORS["rtmdet_van_b1_300e_coco"] | {"model.test_cfg.max_per_img": 8},
    ),
    "dino": ("van/dino_van_b1_12e_coco", slim_heads.DETECTORS["dino_van_b1_12e_coco"]),
    "mask2former": ("van/mask2former_van_b1_lsj_50e_coco", slim_heads.DETECTORS["mask2former_van_b1_lsj_50e_coco"]),
}
PANOPTIC = "van/mask2former_van_b2_lsj_50e_coco_panoptic"
SEGMENTERS = {
    "upernet": ("van/upernet_van_b0_512x512_160k_ade20k", UPER),
    "semantic_fpn": (
        "van/semantic_fpn_van_b0_512x512_40k_ade20k",
        {"model.neck.out_channels": 32, "model.decode_head.in_channels": [32] * 4, "model.decode_head.channels": 32},
    ),
    "gn_upernet": ("hornet/gn_upernet_7x7_hornet_small_7x7_512x512_160k_ade20k", UPER),
    **{
        name.split("/")[1].split("_van")[0]: (name, slim)
        for name, slim in RARE_SEGMENTERS.items()
        if name.startswith("van")
    },
    **{name.split("_van")[0]: (f"van/{name}", slim) for name, slim in slim_heads.SEGMENTERS.items()},
}
CLASSES = {"detection": list(dense_data.CLASSES), "segmentation": ["box", "disc", "background"]}
SIDE = 64  # of the images that the test pipelines make


def config_of(task, name, slim, side=SIDE):
    """The completed config of a small model. Its test pipelines resize images into a square of ``side`` pixels."""
    resize = dict(type="Resize", scale=(side, side), keep_ratio=True)
    options = {"data_root": "none", "classes": CLASSES[task], "model.backbone.drop_path_rate": 0.0, **slim}
    options["model.backbone.pretrained"] = None
    if "hornet" not in name:
        options["model.backbone.arch"] = "van_b0"
    cfg = load_config(f"{task}/configs/{name}.py", options)
    for step in cfg.test_dataloader.dataset.pipeline:
        if step["type"] == "Resize":
            step.scale = (side, side)
        elif step["type"] == "Pad":
            step.size = (side, side)
    if cfg.get("tta_pipeline"):
        cfg.tta_pipeline[1].transforms[0] = [resize, resize | dict(scale=(side + 32, side + 32))]
    return cfg


def built(cfg):
    """The model of a config with random weights, in eval mode."""
    torch.manual_seed(0)
    model = task_for(cfg).build_model(copy.deepcopy(cfg))
    model.init_weights()
    for name, value in model.named_parameters():
        if value.ndim > 1 and "backbone" not in name:  # so that answers differ between places
            value.data.add_(0.1 * torch.randn_like(value))
    return model.eval()


def image_of(height=48, width=64, seed=0):
    """Smooth random colours, (H, W, 3) uint8."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


@torch.no_grad()
def predicted(cfg, model, image):
    """The model's sample for one image, by the config's test preprocessing."""
    task = task_for(cfg)
    torch.manual_seed(0)  # HamNet's head draws random numbers
    with task.scoped(cfg):
        sample = task.preprocessing(cfg)(image)
        return model.test_step(pseudo_collate([sample]))[0]

"""Short trainings of a detector and of a segmenter, with all their randomness, on scenes of tests."""

from pathlib import Path
from typing import Any

import dense_data
from paper_run import UNTESTED

SIZES = [(dense_data.SIZE, dense_data.SIZE), (48, 48)]
DETECTOR = {
    "train_dataloader.dataset.pipeline": [
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
        dict(type="RandomChoiceResize", scales=SIZES, keep_ratio=True),
        dict(type="RandomCrop", crop_size=(40, 40), allow_negative_crop=True),
        dict(type="PhotoMetricDistortion"),
        dict(type="RandomFlip", prob=0.5),
        dict(type="PackDetInputs"),
    ],
    "model.roi_head.bbox_head.in_channels": 32,
    "model.roi_head.bbox_head.fc_out_channels": 64,
    "train_cfg.max_epochs": 2,
    **dense_data.SLIM_ROI,
}
SEGMENTER = {
    "train_dataloader.dataset.pipeline": [
        dict(type="LoadImageFromFile"),
        dict(type="LoadMask"),
        dict(type="RandomResize", scale=(80, 80), ratio_range=(0.5, 2.0), keep_ratio=True),
        dict(type="RandomCrop", crop_size=(64, 64), cat_max_ratio=0.75),
        dict(type="RandomFlip", prob=0.5),
        dict(type="PhotoMetricDistortion"),
        dict(type="PackSegInputs"),
    ],
    "model.data_preprocessor.size": SIZES[0],
    "model.decode_head.channels": 16,
    "model.auxiliary_head.channels": 16,
    "classes": ["box", "disc", "background"],
    "train_cfg.max_iters": 6,
}
# Each config with its data and options.
TASKS = {
    "detection/configs/van/mask_rcnn_van_b0_fpn_1x_coco.py": (dense_data.write_coco, DETECTOR),
    "segmentation/configs/van/upernet_van_b0_512x512_160k_ade20k.py": (dense_data.write_masks, SEGMENTER),
}


def options_for(leaf: str, data: Path, workers: int = 2, **options: Any) -> dict[str, Any]:
    """Six steps of two images, with a checkpoint after every second step."""
    saving = dict(_delete_=True, type="CheckpointHook", by_epoch=False, interval=2, max_keep_ckpts=-1)
    return {
        "data_root": str(data),
        "train_dataloader.batch_size": 2,
        "train_dataloader.num_workers": workers,
        "train_dataloader.persistent_workers": workers > 0,
        **UNTESTED,
        "model.backbone.pretrained": None,
        "model.backbone.drop_path_rate": 0.5,
        "custom_hooks": [dict(type="EMAHook", momentum=0.1, update_buffers=True), dict(type="Losses")],
        "default_hooks.checkpoint": saving,
        **TASKS[leaf][1],
        **options,
    }


def write_data(leaf: str, root: Path) -> Path:
    """Six training scenes and one for the validation, in the layout of the leaf's task."""
    names = ("train", "val") if leaf.startswith("detection") else ("training", "validation")
    return TASKS[leaf][0](root, dict(zip(names, (6, 1), strict=True)))

"""A resumed training of a detector or segmenter is the uninterrupted one, bit for bit.

Workers, shuffling, random crops, flips and colours, random sampling of regions, drop path, dropout and averaged weights
take part, by epoch and by iteration.
"""

from pathlib import Path

import dense_data
import pytest
import torch
from conftest import ROOT
from helpers import UNTESTED, Losses, same

from engine.config import load_config
from engine.run import build_training

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
TASKS = {
    "detection/configs/van/mask_rcnn_van_b0_fpn_1x_coco.py": (dense_data.write_coco, DETECTOR),
    "segmentation/configs/van/upernet_van_b0_512x512_160k_ade20k.py": (dense_data.write_masks, SEGMENTER),
}


@pytest.fixture(autouse=True)
def shallow(cut_depths):
    cut_depths("van_b0", (1, 1, 1, 1))


def train(leaf, data, work_dir, workers, resume=None):
    """The losses of six steps, and the last checkpoint; a checkpoint comes after every second step."""
    options = {
        "data_root": str(data),
        "train_dataloader.batch_size": 2,
        "train_dataloader.num_workers": workers,
        "train_dataloader.persistent_workers": workers > 0,
        **UNTESTED,
        "model.backbone.pretrained": None,
        "model.backbone.drop_path_rate": 0.5,
        "custom_hooks": [dict(type="EMAHook", momentum=0.1, update_buffers=True), dict(type="Losses")],
        "default_hooks.checkpoint": dict(
            _delete_=True, type="CheckpointHook", by_epoch=False, interval=2, max_keep_ckpts=-1
        ),
        **TASKS[leaf][1],
    }
    runner = build_training(load_config(ROOT / leaf, options), work_dir, resume=resume, device="cpu")
    runner.train()
    losses = next(hook.values for hook in runner.hooks if isinstance(hook, Losses))
    return losses, torch.load(Path(work_dir) / "iter_6.pth", weights_only=True)


@pytest.mark.parametrize("leaf", TASKS, ids=lambda leaf: leaf.partition("/")[0])
def test_a_resumed_run_is_the_uninterrupted_one(leaf, tmp_path):
    """From the middle of an epoch of three steps, and with another number of workers."""
    counts = {"train": 6, "val": 1} if "detection" in leaf else {"training": 6, "validation": 1}
    data = TASKS[leaf][0](tmp_path / "data", counts)
    losses, last = train(leaf, data, tmp_path / "straight", workers=2)
    assert len(losses) == len(set(losses)) == 6
    again, ours = train(leaf, data, tmp_path / "resumed", workers=0, resume=tmp_path / "straight/iter_2.pth")
    assert again == losses[2:]
    for part in ("state_dict", "ema_state_dict", "optimizer", "param_schedulers"):
        same(ours[part], last[part], part)

"""Tiny data sets for the dense tasks: bright rectangles ("box") and discs ("disc") on dark noise, 64x64."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("box", "disc")
SIZE = 64
# Options that make the necks and heads of an R-CNN config small.
SLIM_RPN = {"model.neck.out_channels": 32, "model.rpn_head.in_channels": 32, "model.rpn_head.feat_channels": 32}
SLIM_ROI = SLIM_RPN | {
    "model.roi_head.bbox_roi_extractor.out_channels": 32,
    "model.roi_head.mask_roi_extractor.out_channels": 32,
    "model.roi_head.mask_head.in_channels": 32,
    "model.roi_head.mask_head.conv_out_channels": 32,
    "model.train_cfg.rpn_proposal.max_per_img": 40,
    "model.test_cfg.rpn.max_per_img": 20,
    "model.rpn_head.anchor_generator.scales": [1],  # the coarsest level's anchors must fit into 64 pixels
}


def scene(seed: int):
    """An image (64, 64, 3) uint8 and its [(class index, mask (64, 64) bool)], one of each class."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (SIZE, SIZE, 3), dtype=np.uint8)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    left, right = rng.integers(4, 10, 2), rng.integers(36, 42, 2)
    half = int(rng.integers(8, 11))
    corners = [left, right] if rng.random() < 0.5 else [right, left]
    masks = []
    for index, (y, x) in enumerate(corners):
        cy, cx = y + half, x + half
        inside = (abs(rows - cy) <= half) & (abs(columns - cx) <= half)
        if index == 1:
            inside = (rows - cy) ** 2 + (columns - cx) ** 2 <= half**2
        image[inside] = (250, 220, 60) if index == 0 else (80, 200, 250)
        masks.append((index, inside))
    return image, masks


def write_coco(root: Path, counts=None) -> Path:
    """COCO's layout: train2017, val2017 and their annotations; category ids 7 and 3, so that order is not id."""
    (root / "annotations").mkdir(parents=True)
    for split, count in (counts or {"train": 4, "val": 2}).items():
        folder = root / f"{split}2017"
        folder.mkdir()
        images, annotations = [], []
        for i in range(count):
            image, masks = scene(i)
            Image.fromarray(image).save(folder / f"{i:04d}.png")
            images.append(dict(id=i + 1, file_name=f"{i:04d}.png", height=SIZE, width=SIZE))
            for index, mask in masks:
                rows, columns = np.nonzero(mask)
                x, y = int(columns.min()), int(rows.min())
                w, h = int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1
                changes = np.flatnonzero(np.diff(np.r_[0, mask.flatten("F"), 0]))
                ends = np.r_[0, changes, mask.size] if changes[-1] != mask.size else np.r_[0, changes]
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=i + 1,
                        category_id=(7, 3)[index],
                        bbox=[x, y, w, h],
                        area=int(mask.sum()),
                        iscrowd=0,
                        segmentation=dict(size=[SIZE, SIZE], counts=np.diff(ends).tolist()),
                    )
                )
        categories = [dict(id=7, name="box"), dict(id=3, name="disc")]
        content = dict(images=images, annotations=annotations, categories=categories)
        (root / f"annotations/instances_{split}2017.json").write_text(json.dumps(content))
    return root


def write_panoptic(root: Path, counts=None) -> Path:
    """COCO's panoptic layout: the things box (7) and disc (3), and the stuff background (9)."""
    (root / "annotations").mkdir(parents=True)
    for split, count in (counts or {"train": 4, "val": 2}).items():
        folder, maps = root / f"{split}2017", root / f"annotations/panoptic_{split}2017"
        folder.mkdir()
        maps.mkdir()
        images, annotations = [], []
        for i in range(count):
            image, masks = scene(i)
            ids = np.full((SIZE, SIZE), 300, np.uint32)  # more than one byte
            for index, mask in masks:
                ids[mask] = index + 1
            ids[0, :5] = 0  # without a segment
            Image.fromarray(image).save(folder / f"{i:04d}.jpg", quality=95)
            Image.fromarray(np.stack([ids % 256, ids // 256, ids // 65536], -1).astype(np.uint8)).save(
                maps / f"{i:04d}.png"
            )
            images.append(dict(id=i + 1, file_name=f"{i:04d}.jpg", height=SIZE, width=SIZE))
            segments = []
            for number, category in ((1, 7), (2, 3), (300, 9)):
                rows, columns = np.nonzero(ids == number)
                box = [int(columns.min()), int(rows.min()), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]
                segments.append(dict(id=number, category_id=category, bbox=box, area=len(rows), iscrowd=0))
            annotations.append(dict(image_id=i + 1, file_name=f"{i:04d}.png", segments_info=segments))
        names = ((7, "box", 1), (3, "disc", 1), (9, "background", 0))
        categories = [dict(id=number, name=name, isthing=thing) for number, name, thing in names]
        content = dict(images=images, annotations=annotations, categories=categories)
        (root / f"annotations/panoptic_{split}2017.json").write_text(json.dumps(content))
    return root


def write_masks(root: Path, counts=None) -> Path:
    """ADE20K's layout: 0 unlabelled, 1 box, 2 disc, 3 background."""
    for split, count in (counts or {"training": 4, "validation": 2}).items():
        for kind in ("images", "annotations"):
            (root / kind / split).mkdir(parents=True)
        for i in range(count):
            image, masks = scene(i)
            labels = np.full((SIZE, SIZE), 3, np.uint8)
            for index, mask in masks:
                labels[mask] = index + 1
            labels[0, :5] = 0
            Image.fromarray(image).save(root / "images" / split / f"{i}.png")
            Image.fromarray(labels).save(root / "annotations" / split / f"{i}.png")
    return root


SMALL_LOADERS = {
    "train_dataloader.batch_size": 2,
    "train_dataloader.num_workers": 0,
    "train_dataloader.persistent_workers": False,
    "val_dataloader.num_workers": 0,
    "val_dataloader.persistent_workers": False,
}


def small_coco_pipelines(with_mask: bool) -> dict:
    """The COCO bases' pipelines at 64x64."""
    load, size = dict(type="LoadImageFromFile"), dict(type="Resize", scale=(SIZE, SIZE), keep_ratio=True)
    annotations = dict(type="LoadAnnotations", with_bbox=True, with_mask=with_mask)
    keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
    return {
        "train_dataloader.dataset.pipeline": [
            load,
            annotations,
            size,
            dict(type="RandomFlip", prob=0.5),
            dict(type="PackDetInputs"),
        ],
        "val_dataloader.dataset.pipeline": [load, size, dict(type="PackDetInputs", meta_keys=keys)],
    }


def small_mask_pipelines() -> dict:
    """The ADE20K base's pipelines at 64x64."""
    load, size = dict(type="LoadImageFromFile"), dict(type="Resize", scale=(SIZE, SIZE), keep_ratio=True)
    return {
        "train_dataloader.dataset.pipeline": [
            load,
            dict(type="LoadMask"),
            size,
            dict(type="RandomFlip", prob=0.5),
            dict(type="PackSegInputs"),
        ],
        "val_dataloader.dataset.pipeline": [load, size, dict(type="LoadMask"), dict(type="PackSegInputs")],
        "model.data_preprocessor.size": (SIZE, SIZE),
    }

"""Small batches with every kind of truth that detectors and segmenters train on."""

from typing import Any

import numpy as np
import torch
from mmengine.structures import InstanceData, PixelData

IMAGES = 2


def detection_batch(
    size: int,
    classes: int,
    masks: bool = True,
    proposals: bool = False,
    semantic_stride: int = 1,
    semantic_classes: int = 2,
) -> dict[str, Any]:
    """Two images with boxes and a semantic map, as mmdet's loaders give them.

    Args:
        size: pixels of an image's sides.
        classes: number of classes of the boxes; the first two are used.
        masks: whether the boxes have masks.
        proposals: whether the images come with proposals, as for Fast R-CNN. They replace a head that proposes.
        semantic_stride: pixels of the image to one of the semantic map.
        semantic_classes: number of classes of the semantic map.
    """
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    random = np.random.RandomState(0)
    inputs, samples = [], []
    for i in range(IMAGES):
        corners = np.array([[0.1, 0.15, 0.45, 0.6], [0.4, 0.3, 0.95, 0.9], [0.55, 0.05, 0.8, 0.3]])[: 3 - i] * size
        shapes = np.zeros((len(corners), size, size), np.uint8)
        for mask, (x1, y1, x2, y2) in zip(shapes, corners.astype(int), strict=True):
            mask[y1:y2, x1:x2] = 1
        boxes = torch.from_numpy(corners).float()
        sample = DetDataSample(metainfo=meta(size, i))
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.arange(len(boxes)) % min(2, classes))
        if masks:
            sample.gt_instances.masks = BitmapMasks(shapes, size, size)
        sample.ignored_instances = InstanceData(bboxes=boxes.new_zeros(0, 4))
        side = size // semantic_stride
        areas = random.randint(0, semantic_classes, (1, side // 8 + 1, side // 8 + 1)).repeat(8, 1).repeat(8, 2)
        sample.gt_sem_seg = PixelData(sem_seg=torch.from_numpy(areas[:, :side, :side]).long())
        if proposals:
            near = torch.cat([boxes, boxes + 0.1 * size]).clamp(max=size)
            sample.proposals = InstanceData(
                bboxes=near, scores=torch.full((len(near),), 0.9), labels=torch.zeros(len(near), dtype=torch.long)
            )
        inputs.append(torch.from_numpy(random.randint(0, 256, (3, size, size), np.uint8)))
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def segmentation_batch(size: int, classes: int) -> dict[str, Any]:
    """Two images with maps of classes, as mmseg's loaders give them."""
    from mmseg.structures import SegDataSample

    random = np.random.RandomState(0)
    inputs, samples = [], []
    for i in range(IMAGES):
        areas = random.randint(0, classes, (1, size // 16, size // 16)).repeat(16, 1).repeat(16, 2)
        sample = SegDataSample(metainfo=meta(size, i))
        sample.gt_sem_seg = PixelData(data=torch.from_numpy(areas).long())
        inputs.append(torch.from_numpy(random.randint(0, 256, (3, size, size), np.uint8)))
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def meta(size: int, index: int) -> dict[str, Any]:
    return dict(
        img_id=index,
        img_shape=(size, size),
        ori_shape=(size, size),
        scale_factor=(1.0, 1.0),
        flip=False,
        flip_direction=None,
        img_path=f"{index}.png",
        border=np.array([0, size, 0, size]),  # CenterNet's
        homography_matrix=np.eye(3, dtype=np.float32),  # of semi-supervised detectors
    )

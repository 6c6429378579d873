"""Random images with random objects, for measurements that need no files."""

import numpy as np
import torch
from mmdet.registry import DATASETS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData, PixelData

from ziggurat.engine.random_data import RandomSamples, random_image

OBJECTS = 8  # in an image; COCO has 7.3 on average
SMALLEST = 16  # pixels, the least side of an object


@DATASETS.register_module(force=True)
class RandomScenes(RandomSamples):
    """Images with ``OBJECTS`` ellipses of random places, sizes and classes.

    Args:
        things: number of classes of objects. Where there are more classes, all other pixels belong to the next one.
        classes, number, height, width: see ``ziggurat.engine.random_data.RandomSamples``.
    """

    def __init__(self, things: int, **size: int):
        self.things = things
        super().__init__(**size)

    def sample(self, rng, height, width):
        image = random_image(rng, height, width)
        largest = np.array([width, height])
        sides = np.exp(rng.uniform(np.log(SMALLEST), np.log(largest * 0.8), (OBJECTS, 2)))
        corners = rng.uniform(0, largest - sides)
        boxes = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
        labels = rng.integers(0, self.things, OBJECTS)
        masks = np.stack([ellipse(box, height, width) for box in boxes])
        truth = InstanceData(
            bboxes=torch.from_numpy(boxes), labels=torch.from_numpy(labels), masks=BitmapMasks(masks, height, width)
        )
        size = (height, width)
        sample = DetDataSample(
            metainfo=dict(img_id=0, img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0), flip=False),
            gt_instances=truth,
            ignored_instances=InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long)),
        )
        if self.classes > self.things:
            areas = np.full(size, self.things, np.uint8)
            for label, mask in zip(labels, masks, strict=True):
                areas[mask > 0] = label
            sample.gt_sem_seg = PixelData(sem_seg=torch.from_numpy(areas)[None])
        return {"inputs": image, "data_samples": sample}


def ellipse(box: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 (H, W): 1 inside the ellipse that fills a box (x1, y1, x2, y2)."""
    (x1, y1, x2, y2), (rows, columns) = box, np.ogrid[:height, :width]
    across, down = (columns - (x1 + x2) / 2) * 2 / (x2 - x1), (rows - (y1 + y2) / 2) * 2 / (y2 - y1)
    return (across**2 + down**2 <= 1).astype(np.uint8)

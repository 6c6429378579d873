"""Random images with a random class for every square of pixels, for measurements that need no files."""

import torch
from mmengine.structures import PixelData
from mmseg.registry import DATASETS
from mmseg.structures import SegDataSample

from ziggurat.engine.random_data import RandomSamples, random_image

SQUARE = 32  # pixels, the side of an area of one class


@DATASETS.register_module(force=True)
class RandomAreas(RandomSamples):
    """Images that are made of squares, each of a random class."""

    def sample(self, rng, height, width):
        coarse = rng.integers(0, self.classes, (-(-height // SQUARE), -(-width // SQUARE)))
        areas = coarse.repeat(SQUARE, axis=0).repeat(SQUARE, axis=1)[:height, :width]
        size = (height, width)
        sample = SegDataSample(
            metainfo=dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0), flip=False),
            gt_sem_seg=PixelData(data=torch.from_numpy(areas)[None]),
        )
        return {"inputs": random_image(rng, height, width), "data_samples": sample}

"""Masks that stay run-length codes have the pixels of mmdetection's BitmapMasks after every transform, bit for bit."""

import copy
import pickle

import numpy as np
import pytest
import torch
from mmdet.datasets.transforms.loading import LoadAnnotations as PlainLoadAnnotations
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from pycocotools import mask as coco_mask

import detection  # noqa: F401, which registers LoadAnnotations
from backbones import UserError
from detection.masks import EncodedMasks, encoded, nearest

HEIGHT, WIDTH = 37, 53


@pytest.fixture
def both():
    """Polygons, run-length codes with holes, an empty and a full mask: as ours, and as mmdetection's."""
    rng = np.random.default_rng(0)
    blob = np.zeros((HEIGHT, WIDTH), np.uint8)
    blob[10:30, 20:21] = blob[5:6, 3:50] = blob[33:, 40:] = 1
    noise = (rng.random((HEIGHT, WIDTH)) < 0.3).astype(np.uint8)
    bitmaps = [blob, noise, np.zeros_like(blob), np.ones_like(blob)]
    codes = [coco_mask.encode(np.asfortranarray(one)) for one in bitmaps]
    polygon = [[5.2, 4.1, 30.0, 8.5, 22.3, 35.9, 2.0, 20.0], [40, 3, 50, 3, 45, 12.5]]
    codes.append(encoded(polygon, HEIGHT, WIDTH))
    bitmaps.append(coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygon, HEIGHT, WIDTH))))
    plain = BitmapMasks(bitmaps, HEIGHT, WIDTH)
    return EncodedMasks(codes, np.arange(HEIGHT), np.arange(WIDTH)), plain


def check(ours, plain):
    assert (ours.height, ours.width, len(ours)) == (plain.height, plain.width, len(plain))
    assert np.array_equal(ours.areas, plain.areas)
    assert np.array_equal(ours.get_bboxes("hbox").tensor, HorizontalBoxes.from_instance_masks(plain).tensor)
    assert np.array_equal(ours.masks, plain.masks) and ours.masks.dtype == plain.masks.dtype


STEPS = {
    "rescale": lambda masks: masks.rescale((90, 61)),
    "shrink": lambda masks: masks.rescale(0.31),
    "resize": lambda masks: masks.resize((64, 40)),
    "mirror": lambda masks: masks.flip(),
    "turn": lambda masks: masks.flip("vertical").flip("diagonal"),
    "crop": lambda masks: masks.crop(np.array([7, 3, 31, 60])),
    "pad": lambda masks: masks.pad((70, 96)),
    "choose": lambda masks: masks[np.array([True, False, False, True, True])],
    "one": lambda masks: masks[1],
    "none": lambda masks: masks[np.zeros(5, bool)],
    "all": lambda masks: masks.flip().rescale((200, 140)).crop(np.array([20, 11, 120, 99])).pad((128, 128)).flip(),
    "none of all": lambda masks: masks[np.zeros(5, bool)].rescale((90, 61)).flip().pad((100, 100)),
}


@pytest.mark.parametrize("name", STEPS)
def test_pixels_areas_and_boxes_are_those_of_bitmaps(both, name):
    ours, plain = map(STEPS[name], both)
    assert isinstance(ours, EncodedMasks) and ours.drawn is None
    check(ours, plain)
    check(pickle.loads(pickle.dumps(ours)), plain)


def test_what_is_not_kept_encoded_is_that_of_bitmaps(both):
    ours, plain = both
    for step in (
        lambda masks: masks.resize((64, 40), "bilinear"),
        lambda masks: masks.pad((70, 96), pad_val=1),
        lambda masks: masks.translate((HEIGHT, WIDTH), 5),
        lambda masks: masks.expand(80, 90, 3, 4),
    ):
        assert type(step(ours)) is BitmapMasks
        assert np.array_equal(step(ours).masks, step(plain).masks)
    assert np.array_equal(EncodedMasks.cat([ours, ours]).masks, BitmapMasks.cat([plain, plain]).masks)
    assert torch.equal(ours.to_tensor(torch.bool, "cpu"), plain.to_tensor(torch.bool, "cpu"))
    changed = copy.deepcopy(ours)
    changed.masks = 1 - changed.masks  # as mmdetection's CopyPaste
    assert type(changed) is BitmapMasks and np.array_equal(changed.flip().masks, 1 - plain.flip().masks)


@pytest.mark.parametrize("side", [1, 7, 480, 641, 1333])
def test_rows_are_those_of_opencv(side):
    """OpenCV's own resize of the numbers of the rows."""
    import cv2

    numbers = np.arange(side, dtype=np.float32)[:, None]
    for wanted in (1, 3, 28, 333, 800, 1067, 1333, 2048):
        assert np.array_equal(
            nearest(side, wanted), cv2.resize(numbers, (1, wanted), interpolation=cv2.INTER_NEAREST)[:, 0]
        )


@pytest.mark.parametrize("binarize", [True, False])
def test_targets_of_mask_heads_are_those_of_bitmaps(both, binarize):
    rng = np.random.default_rng(1)
    corners = rng.uniform(-4, 30, (40, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0.5, 40, (40, 2))], 1).astype(np.float32)
    inds = rng.integers(0, 5, 40)
    ours, plain = (masks.crop_and_resize(boxes, (28, 28), inds, binarize=binarize).to_ndarray() for masks in both)
    assert np.array_equal(ours, plain) and ours.dtype == plain.dtype
    assert len(both[0].crop_and_resize(boxes[:0], (28, 28), inds[:0])) == 0
    assert len(both[0][np.zeros(5, bool)].crop_and_resize(boxes, (28, 28), inds)) == 0


def test_pipelines_load_them(both):
    annotations = dict(with_bbox=True, with_mask=True)
    instances = [
        dict(bbox=[5, 4, 25, 30], bbox_label=0, ignore_flag=0, mask=[[5.2, 4.1, 30.0, 8.5, 22.3, 35.9, 2.0, 20.0]]),
        dict(bbox=[5, 4, 25, 30], bbox_label=1, ignore_flag=0, mask=dict(size=[HEIGHT, WIDTH], counts=[50, 30, 1881])),
        dict(bbox=[5, 4, 25, 30], bbox_label=1, ignore_flag=0, mask=both[0].codes[1]),
        dict(bbox=[5, 4, 25, 30], bbox_label=1, ignore_flag=0, mask=[[1, 2]]),  # no polygon
    ]
    results = dict(instances=instances, ori_shape=(HEIGHT, WIDTH), img_path="street.jpg")
    ours = TRANSFORMS.build(dict(type="mmdet.LoadAnnotations", **annotations))(copy.deepcopy(results))
    plain = PlainLoadAnnotations(**annotations)(copy.deepcopy(results))
    assert isinstance(ours["gt_masks"], EncodedMasks)
    assert np.array_equal(ours["gt_masks"].masks, plain["gt_masks"].masks)
    assert np.array_equal(ours["gt_ignore_flags"], plain["gt_ignore_flags"])
    results["instances"][1]["mask"]["size"] = [WIDTH, HEIGHT]
    with pytest.raises(UserError, match=r"street\.jpg has 53x37 pixels, and a mask of 37x53"):
        TRANSFORMS.build(dict(type="mmdet.LoadAnnotations", **annotations))(results)

"""Tiles of detection: what tiles show of an object is joined, so that tiled and whole passes find the same objects.

The detector here is exact: each connected area of its class's colour is an object. So any difference is of the tiles.
"""

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from PIL import Image
from pycocotools import mask as coco_mask

import detection
from backbones import UserError
from detection.run_lengths import RunLengths, as_text, placed, run_lengths
from detection.tile_merging import clusters_of
from ziggurat.engine.draw import draw_instances, make_palette
from ziggurat.engine.results import Instances
from ziggurat.engine.tiles import Tiles, tiles_of

COLOURS = ((250, 220, 60), (80, 200, 250))  # RGB
PLAIN = [dict(type="LoadImageFromFile"), dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape"))]


@MODELS.register_module(force=True)
class ColourDetector(BaseModel):
    """Finds the connected areas of each class's colour. Larger areas have a higher score."""

    def __init__(self, masks=True, data_preprocessor=None):
        super().__init__()
        self.masks, self.seen = masks, []

    def forward(self, *args, **kwargs):
        raise NotImplementedError

    def test_step(self, data):
        self.seen.append([tuple(image.shape[-2:]) for image in data["inputs"]])
        return [self.detect(*one) for one in zip(data["inputs"], data["data_samples"], strict=True)]

    def detect(self, image, sample):
        pixels, found = image.numpy()[::-1], []
        for label, colour in enumerate(COLOURS):
            areas = (pixels == np.array(colour)[:, None, None]).all(0).astype(np.uint8)
            count, numbers = cv2.connectedComponents(areas, connectivity=8)
            found += [(label, numbers == i) for i in range(1, count)]
        boxes = [box_of(mask) for _, mask in found]
        instances = InstanceData(
            bboxes=torch.tensor(boxes, dtype=torch.float).reshape(-1, 4),
            scores=torch.tensor([1 - 1 / (1 + float(mask.sum())) for _, mask in found]),
            labels=torch.tensor([label for label, _ in found], dtype=torch.long),
        )
        if self.masks:
            masks = np.array([mask for _, mask in found]).reshape(-1, *sample.ori_shape)
            instances.masks = torch.from_numpy(masks.astype(bool))
        result = DetDataSample(metainfo=sample.metainfo)
        result.pred_instances = instances
        return result


def box_of(mask):
    rows, columns = np.nonzero(mask)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def predicted(image, tiles=None, masks=True, batch_size=1):
    """The result for an image, and the sizes of what the detector saw."""
    cfg = Config(
        dict(
            model=dict(type="ColourDetector", masks=masks),
            test_dataloader=dict(batch_size=batch_size, dataset=dict(pipeline=PLAIN)),
        )
    )
    task = detection.TASK
    if tiles is not None:
        task.use_tiles(cfg, tiles)
    model = task.build_model(cfg)
    with task.scoped(cfg):
        sample = task.preprocessing(cfg)(image)
    (output,) = model.test_step(pseudo_collate([sample]))
    return task.result(output, ("box", "disc")), getattr(model, "module", model).seen


def scene(height, width, seed=0, count=12, largest=22):
    """Shapes of two colours, apart from each other: boxes, discs, triangles and lines."""
    rng, image = np.random.default_rng(seed), np.zeros((height, width, 3), np.uint8)
    for i in range(count):
        w, h = rng.integers(8, largest, 2).tolist()
        x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
        if image[max(y - 4, 0) : y + h + 4, max(x - 4, 0) : x + w + 4].any():
            continue
        part = np.zeros((h, w), np.uint8)
        if i % 4 == 0:
            part[:] = 1
        elif i % 4 == 1:
            cv2.ellipse(part, (w // 2, h // 2), (w // 2 - 1, h // 2 - 1), 0, 0, 360, 1, -1)
        elif i % 4 == 2:
            cv2.fillPoly(part, [np.array([[0, h - 1], [w - 1, h - 1], [w - 1, 0]])], 1)
        else:
            cv2.line(part, (0, 0), (w - 1, h - 1), 1, 2)
        image[y : y + h, x : x + w][part > 0] = COLOURS[int(rng.integers(2))]
    return image


def assert_same(one, other):
    """The same objects, in any order."""
    assert one.size == other.size and len(one.boxes) == len(other.boxes)
    orders = [np.lexsort((*found.boxes.T, found.labels)) for found in (one, other)]
    for name in ("boxes", "labels"):
        np.testing.assert_array_equal(*(getattr(f, name)[o] for f, o in zip((one, other), orders)))
    assert (one.masks is None) == (other.masks is None)
    if one.masks is not None:
        np.testing.assert_array_equal(*(np.asarray(f.masks)[o] for f, o in zip((one, other), orders)))


@pytest.mark.parametrize("masks", [True, False])
def test_an_image_that_fits_one_tile_is_one_tile(masks):
    image = scene(90, 120)
    whole, _ = predicted(image, masks=masks)
    tiled, seen = predicted(image, Tiles(128), masks=masks)
    assert len(whole.boxes) > 5 and seen == [[(90, 120)]]
    assert_same(tiled, whole)
    np.testing.assert_array_equal(tiled.scores, whole.scores)


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_objects_across_tiles_are_those_of_a_whole_pass(seed, masks):
    """The objects are up to 22 pixels large, and neighbours share 28 pixels."""
    image = scene(210, 170, seed, count=60)
    whole, _ = predicted(image, masks=masks)
    tiled, seen = predicted(image, Tiles(64, 28 / 64), masks=masks)
    assert len(whole.boxes) > 15 and len(seen) == 6 * 4 and set(seen[0]) == {(64, 64)}
    assert_same(tiled, whole)
    assert (np.diff(tiled.scores) <= 0).all()


@pytest.mark.parametrize("masks", [True, False])
def test_objects_larger_than_tiles_are_joined(masks):
    """Parts of one object are joined along a row of tiles, and over rows and columns."""
    image = np.zeros((200, 300, 3), np.uint8)
    image[90:110, 7:290] = COLOURS[0]
    cv2.ellipse(image, (150, 50), (60, 35), 0, 0, 360, COLOURS[1], -1)
    image[130:190, 20:110] = COLOURS[1]
    whole, _ = predicted(image, masks=masks)
    tiled, _ = predicted(image, Tiles(64, 0.25), masks=masks)
    assert len(whole.boxes) == 3
    assert_same(tiled, whole)


def test_classes_stay_apart_and_so_do_neighbours_of_one_tile():
    """A box of one class inside a box of the other, and two boxes side by side, in the middle of four tiles."""
    image = np.zeros((128, 128, 3), np.uint8)
    image[50:70, 50:70], image[56:64, 56:64] = COLOURS[0], COLOURS[1]
    image[72:78, 50:60] = image[72:78, 62:72] = COLOURS[0]
    whole, _ = predicted(image)
    tiled, _ = predicted(image, Tiles(80, 0.5))
    assert len(whole.boxes) == 4
    assert_same(tiled, whole)


def test_parts_of_masks_are_those_of_whole_masks():
    """Objects of any size and place, with runs that reach the image's borders, and none."""
    rng, masks = np.random.default_rng(0), np.zeros((40, 37, 53), bool)
    for i, mask in enumerate(masks[2:], 2):
        top, left = rng.integers(0, 37), rng.integers(0, 53)
        mask[top : top + rng.integers(1, 40), left : left + rng.integers(1, 60)] = True
        mask &= rng.random(mask.shape) < (1 if i % 2 else 0.6)
    masks[1] = True
    kept = RunLengths(run_lengths(masks), masks.shape[1:])
    for i, mask in enumerate(masks):
        part, (top, left) = kept.part(i)
        whole = np.zeros_like(mask)
        whole[top : top + part.shape[0], left : left + part.shape[1]] = part
        np.testing.assert_array_equal(whole, mask)
        assert not mask.any() or part.shape == (mask.any(1).sum(), mask.any(0).sum()) or i % 2 == 0
    image = Image.fromarray(rng.integers(0, 256, (37, 53, 3), dtype=np.uint8))
    boxes, colours = np.zeros((40, 4)), make_palette(40)
    drawn = [np.asarray(draw_instances(image, boxes, ["a"] * 40, colours, None, one)) for one in (masks, kept)]
    np.testing.assert_array_equal(*drawn)


def test_a_small_object_in_front_of_a_large_one_of_its_class_stays():
    """No tile shows the large box whole. Each of its parts has a higher overlap with the small box than one half."""
    windows = np.array([[0, 0, 64, 64], [32, 0, 96, 64]])
    boxes = np.array([[5, 5, 64, 60], [32, 5, 90, 60], [40, 20, 52, 32], [40, 20, 52, 32]], float)
    scores, tiles = np.array([0.6, 0.7, 0.9, 0.8]), np.array([0, 1, 0, 1])
    small, large = clusters_of(boxes, scores, np.zeros(4, int), tiles, windows, (64, 96))
    assert small == ([2, 3], True, 0.9) and sorted(large.members) == [0, 1] and not large.whole
    assert large.score == 0.7


def test_a_tile_keeps_what_its_detector_keeps():
    """Detectors without NMS give one object twice: one of each tile joins one of the other."""
    windows = np.array([[0, 0, 64, 64], [32, 0, 96, 64]])
    boxes = np.array([[40, 20, 52, 32], [40, 20, 52, 33], [40, 20, 52, 32], [40, 20, 52, 33]], float)
    scores, tiles = np.array([0.9, 0.2, 0.8, 0.3]), np.array([0, 0, 1, 1])
    found = clusters_of(boxes, scores, np.zeros(4, int), tiles, windows, (64, 96))
    assert [(one.members, one.score) for one in found] == [([0, 2], 0.9), ([3, 1], 0.3)]


def test_nothing_to_find():
    tiled, _ = predicted(np.zeros((100, 100, 3), np.uint8), Tiles(64))
    assert len(tiled.boxes) == 0 and np.asarray(tiled.masks).shape == (0, 100, 100)


def test_tiles_come_in_batches():
    image = scene(100, 150)
    alone, _ = predicted(image, Tiles(64))
    together, seen = predicted(image, Tiles(64), batch_size=4)
    assert [len(batch) for batch in seen] == [4, 2]
    assert_same(together, alone)


@pytest.mark.parametrize("shape", [(100, 150), (64, 64), (40, 200), (65, 33)])
@pytest.mark.parametrize("tiles", [Tiles(64), Tiles(64, 0.0), Tiles(33, 0.9)])
def test_windows_cover_an_image_and_keep_their_size(shape, tiles):
    height, width = shape
    covered = np.zeros(shape, int)
    for left, top, right, bottom in tiles.windows(height, width):
        covered[top:bottom, left:right] += 1
        assert (right - left, bottom - top) == (min(width, tiles.size), min(height, tiles.size))
    assert covered.min() >= 1


def test_placed_masks_are_pycocotools_own():
    rng = np.random.default_rng(0)
    for corner, part in (((0, 0), (30, 40)), ((7, 9), (21, 31)), ((0, 9), (21, 40)), ((9, 0), (30, 3))):
        mask = np.zeros((30, 40), np.uint8)
        window = mask[corner[1] : part[0], corner[0] : part[1]]
        window[:] = rng.integers(0, 2, window.shape)
        assert placed(window, corner, mask.shape) == coco_mask.encode(np.asfortranarray(mask))


def test_run_lengths_stand_for_arrays():
    masks = np.random.default_rng(0).integers(0, 2, (3, 8, 6)).astype(bool)
    packed = RunLengths(run_lengths(masks), (8, 6))
    found = Instances((8, 6), np.zeros((3, 4)), np.array([0.9, 0.5, 0.2]), np.zeros(3, int), ["a"] * 3, packed)
    np.testing.assert_array_equal(np.asarray(found.above(0.4).masks), masks[:2])
    np.testing.assert_array_equal(packed[1], masks[1])
    assert packed.shape == masks.shape and [as_text(one)["size"] for one in packed.rows] == [[8, 6]] * 3


@pytest.mark.parametrize(
    ("size", "overlap", "words"),
    [
        (16, None, "tile is 16; allowed: integers from 32 up"),
        (64, 1.0, "tile_overlap is 1.0; allowed: from 0 to less than 1"),
        (None, 0.2, "tile_overlap is 0.2, without tile"),
    ],
)
def test_bad_tiles_are_named(size, overlap, words):
    with pytest.raises(UserError, match=words):
        tiles_of(size, overlap)

"""Windows of segmentation: joined row by row, they give what a sum over the whole image gives, without seams.

The references hold all scores in memory: numpy for the joining, torch's ``interpolate`` for the resize.
"""

import copy

import numpy as np
import pytest
import small_heads
import torch
from mmengine.dataset import pseudo_collate
from small_heads import built, config_of, image_of
from torch.nn.functional import interpolate

from segmentation.class_map import ClassMapWriter
from segmentation.joining import Joining, spans_of
from ziggurat.engine import tile_progress
from ziggurat.engine.tasks import task_for
from ziggurat.engine.tiles import Tiles

SIZES = [(40, 52), (16, 16), (9, 70), (61, 17), (33, 32)]
TILES = [Tiles(16, 0.25), Tiles(16, 0.0), Tiles(16, 0.6), Tiles(12, 0.9), Tiles(100, 0.25)]


def joined(size, tiles, window, classes=3):
    """The joined scores, and the largest number of scores that waited. ``window(i, j, rows, columns)`` gives scores."""
    rows, columns = (spans_of(length, tiles) for length in size)
    result, waited = np.full((classes, *size), np.nan), 0

    def emit(scores, top, left):
        place = result[:, top : top + scores.shape[1], left : left + scores.shape[2]]
        assert np.isnan(place).all(), "each pixel comes once"
        place[:] = scores.numpy()

    joining = Joining(rows, columns, emit)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            joining.add(window(i, j, slice(row.start, row.end), slice(column.start, column.end)), i, j)
            waited = max(waited, sum(x.numel() for x in (joining.strip, joining.beside) if x is not None))
    assert not np.isnan(result).any()
    return result, waited


def plain_weight(length):
    """A weight that falls linearly to the borders of a window."""
    return 1 - np.abs(np.linspace(-1 + 1 / length, 1 - 1 / length, length))


@pytest.mark.parametrize("tiles", TILES, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_row_by_row_is_a_weighted_average_over_the_whole_image(size, tiles):
    rng = np.random.default_rng(0)
    total, weights = np.zeros((3, *size)), np.zeros(size)

    def window(i, j, rows, columns):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        scores, weight = rng.normal(size=(3, height, width)), np.outer(plain_weight(height), plain_weight(width))
        total[:, rows, columns] += scores * weight
        weights[rows, columns] += weight
        return torch.from_numpy(scores)

    found, _ = joined(size, tiles, window)
    np.testing.assert_allclose(found, total / weights, atol=1e-6)


@pytest.mark.parametrize("tiles", TILES, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_network_that_knows_no_position_gives_no_seams(size, tiles):
    """Each window gives the scores of the whole image there. So joined windows are the whole image."""
    whole = torch.randn(3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found, _ = joined(size, tiles, lambda i, j, rows, columns: whole[:, rows, columns])
    np.testing.assert_allclose(found, whole.numpy(), atol=1e-6)


def test_windows_that_disagree_pass_into_each_other():
    """Neighbours share 20 pixels of 40: from 0 to 1 the scores take 20 steps. A plain average has steps of a half."""
    found, _ = joined((100, 100), Tiles(40, 0.5), lambda i, j, rows, columns: torch.full((3, 40, 40), (i + j) % 2.0))
    assert found.min() < 0.03 and found.max() > 0.97
    for axis in (1, 2):
        assert np.abs(np.diff(found, axis=axis)).max() <= 1 / 20 + 1e-6


def test_what_waits_is_a_strip_and_does_not_grow_with_the_height():
    def zeros(i, j, rows, columns):
        return torch.zeros(3, 16, 16)

    low, high = (joined((height, 64), Tiles(16, 0.25), zeros)[1] for height in (64, 640))
    assert high <= low <= 3 * (6 * 64 + 16 * 6)
    last = joined((65, 64), Tiles(16, 0.25), zeros)[1]
    assert last <= 3 * (7 * 64 + 16 * 7), "a last row of windows lies no closer than the others"


@pytest.mark.parametrize("length", [16, 17, 100, 255])
@pytest.mark.parametrize("tiles", TILES, ids=str)
def test_windows_are_as_many_as_mmsegs_and_cover_each_side(length, tiles):
    spans = spans_of(length, tiles)
    assert len(spans) == len(tiles.intervals(length)) and (spans[0].start, spans[-1].end) == (0, length)
    total = np.zeros(length)
    for span in spans:
        total[span.start : span.end] += span.weights.numpy()
    np.testing.assert_allclose(total, 1, atol=1e-6)


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("wanted", [(40, 60), (97, 131), (13, 17), (1, 300), (40, 61), (300, 1)], ids=str)
def test_parts_become_the_classes_of_the_resized_scores(wanted, corners, monkeypatch):
    monkeypatch.setattr("segmentation.class_map.AT_A_TIME", 500)
    scores = torch.randn(5, 40, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    writer = ClassMapWriter((40, 60), wanted, corners)
    for top, bottom in ((0, 1), (1, 14), (14, 40)):
        for left, right in ((0, 25), (25, 26), (26, 60)):
            writer.add(scores[:, top:bottom, left:right], top, left)
    expected = interpolate(scores[None], wanted, mode="bilinear", align_corners=corners)[0].argmax(0)
    assert writer.indices.dtype == np.uint8
    np.testing.assert_array_equal(writer.indices, expected.numpy())


def test_a_single_score_and_many_classes():
    scores = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0))
    one = ClassMapWriter((8, 8), (8, 8), threshold=0.6)
    one.add(scores, 0, 0)
    np.testing.assert_array_equal(one.indices, (scores[0].sigmoid() > 0.6).numpy())
    many = ClassMapWriter((2, 2), (4, 4))
    many.add(torch.eye(300)[:, [299, 7, 0, 256]].reshape(300, 2, 2), 0, 0)
    assert many.indices.dtype == np.uint16 and many.indices[0, 0] == 299 and many.indices[3, 3] == 256


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_segmenter_joins_its_own_windows(batch_size, monkeypatch, request, cut_depths):
    """The image is resized from 50x75 to 64x96 pixels, and back."""
    monkeypatch.chdir(request.config.rootpath)
    cut_depths("van_b0", (1, 1, 1, 1))
    cfg = config_of("segmentation", *small_heads.SEGMENTERS["upernet"])
    for step in cfg.test_dataloader.dataset.pipeline:
        if step["type"] == "Resize":
            step.scale = (96, 64)
    cfg.test_dataloader.batch_size = batch_size
    model, image, task = built(cfg), image_of(50, 75), task_for(cfg)
    with task.scoped(cfg):
        sample = task.preprocessing(cfg)(image)
    inputs = model.data_preprocessor(pseudo_collate([sample]))["inputs"]
    total, weights = np.zeros((3, 64, 96)), np.zeros((64, 96))
    weight = np.outer(plain_weight(48), plain_weight(48))
    with torch.no_grad():
        for top in (0, 16):
            for left in (0, 24, 48):
                window = inputs[:, :, top : top + 48, left : left + 48]
                scores = model.encode_decode(window, [dict(img_shape=window.shape[2:])])[0]
                total[:, top : top + 48, left : left + 48] += scores.numpy() * weight
                weights[top : top + 48, left : left + 48] += weight
        expected = interpolate(torch.from_numpy(total / weights)[None], (50, 75), mode="bilinear").argmax(1)[0]
        task.predict_on_tiles(cfg, Tiles(48, 0.5))
        tiled = task.build_model(cfg).eval()
        tiled.module.load_state_dict(model.state_dict())
        (output,) = tiled.test_step(pseudo_collate([sample]))
    found = task.result(output, ["box", "disc", "background"]).class_map
    assert found.shape == (50, 75) and (found == expected.numpy()).mean() > 0.999


def test_a_whole_pass_keeps_no_scores_of_large_images(monkeypatch, request, cut_depths):
    monkeypatch.chdir(request.config.rootpath)
    cut_depths("van_b0", (1, 1, 1, 1))
    cfg = config_of("segmentation", *small_heads.SEGMENTERS["upernet"])
    cfg.model.data_preprocessor.test_cfg = dict(size_divisor=32)  # 64x48 pixels get padding below
    task = task_for(cfg)
    torch.manual_seed(0)
    model = task.build_for_prediction(cfg).eval()
    with task.scoped(cfg):
        sample = task.preprocessing(cfg)(image_of(75, 100))

    def predicted(large):
        monkeypatch.setattr("segmentation.class_map.LARGE", large)
        with torch.no_grad():
            (output,) = model.test_step(pseudo_collate([copy.deepcopy(sample)]))
        return task.result(output, ["box", "disc", "background"]).class_map, "seg_logits" in output

    (by_mmseg, kept), (found, also) = predicted(10**9), predicted(3 * 75 * 100)
    assert kept and not also and found.shape == (75, 100) and len(np.unique(found)) > 1
    assert (found == by_mmseg).mean() > 0.999


def test_many_tiles_show_how_many_are_done(monkeypatch, capsys):
    monkeypatch.setattr(tile_progress, "PAUSE", -1)
    assert list(tile_progress.followed(range(50), tile_progress.MANY - 1, 2)) == list(range(50))
    assert capsys.readouterr().err == ""
    assert list(tile_progress.followed(range(50), 99, 2)) == list(range(50))
    assert capsys.readouterr().err.splitlines()[::49] == ["tile 2 of 99", "tile 99 of 99"]

"""nms, softnms, nms_match and bbox_overlaps equal mmcv's loops: same indices, same order, same float32 arithmetic.

Of equal scores the lower index comes first. Empty inputs, half types, views and both pixel conventions are tested, too.
"""

import math

import numpy as np
import pytest
import torch

from ziggurat import mmcv_ops

mmcv_ops.install()

from mmcv import ops  # noqa: E402
from mmcv.ops.nms import ext_module as ext  # noqa: E402

pytestmark = pytest.mark.numeric

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
F = np.float32


def iou(a, b, offset=0, mode="iou"):
    """Overlap of two boxes in float32, operation by operation."""
    one = F(offset)
    width = max(F(0), F(F(min(a[2], b[2]) - max(a[0], b[0])) + one))
    height = max(F(0), F(F(min(a[3], b[3]) - max(a[1], b[1])) + one))
    area_a, area_b = (F(F(F(c[2] - c[0]) + one) * F(F(c[3] - c[1]) + one)) for c in (a, b))
    overlap = F(width * height)
    with np.errstate(all="ignore"):
        return F(overlap / (F(F(area_a + area_b) - overlap) if mode == "iou" else area_a))


def by_score(scores):
    return sorted(range(len(scores)), key=lambda i: (-float(scores[i]), i))


def loop_nms(boxes, scores, threshold, offset):
    alive, kept = by_score(scores), []
    while alive:
        first, *alive = alive
        kept.append(first)
        alive = [j for j in alive if not iou(boxes[first], boxes[j], offset) > F(threshold)]
    return kept


def loop_match(boxes, scores, threshold):
    alive, groups = by_score(scores), []
    while alive:
        first, *alive = alive
        hit = [j for j in alive if iou(boxes[first], boxes[j]) >= F(threshold)]
        groups.append([first, *hit])
        alive = [j for j in alive if j not in hit]
    return groups


def loop_softnms(boxes, scores, threshold, sigma, min_score, method, offset):
    """The compiled loop, with a list in the place of its arrays: [box, score, index]."""
    table = [[boxes[i], F(scores[i]), i] for i in range(len(boxes))]
    i = 0
    while i < len(table):
        best = i
        for k in range(i + 1, len(table)):
            if table[best][1] < table[k][1]:
                best = k
        table[i], table[best] = table[best], table[i]
        k = i + 1
        while k < len(table):
            overlap, weight = iou(table[i][0], table[k][0], offset), F(1)
            if method == "gaussian":
                # Rounded once: NumPy's float32 exponential has other last bits on other vector units.
                weight = F(math.exp(F(-F(overlap * overlap) / F(sigma))))
            elif overlap >= F(threshold):
                weight = F(0) if method == "naive" else F(F(1) - overlap)
            table[k][1] = F(table[k][1] * weight)
            if table[k][1] < F(min_score):
                last = table.pop()
                if k < len(table):
                    table[k] = last
            else:
                k += 1
        i += 1
    return table


def random_boxes(count, seed, kind):
    """`grid`: corners on whole pixels and few distinct scores, so overlaps hit thresholds exactly and scores tie."""
    random = np.random.default_rng(seed)
    if kind == "grid":
        start, size = (
            random.integers(0, 8, (count, 2)),
            random.integers(0, 6, (count, 2)),
        )
        scores = random.integers(1, 6, count) / 8
    else:
        start, size, scores = (
            random.random((count, 2)) * 40,
            random.random((count, 2)) * 25,
            random.random(count),
        )
    return np.concatenate([start, start + size], 1).astype(F), scores.astype(F)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("kind", ["grid", "spread"])
def test_nms_keeps_what_the_loop_keeps(kind, offset, device):
    for seed in range(12):
        boxes, scores = random_boxes(40, seed, kind)
        for threshold in (0.1, 0.25, 1 / 3, 0.5, 0.6, 0.7):
            dets, kept = ops.nms(
                torch.tensor(boxes, device=device),
                torch.tensor(scores, device=device),
                threshold,
                offset=offset,
            )
            assert kept.tolist() == loop_nms(boxes, scores, threshold, offset)
            assert torch.equal(dets.cpu(), torch.tensor(np.column_stack([boxes, scores]))[kept.cpu()])


def test_nms_compares_with_the_threshold_in_float32():
    assert float(F(0.6)) > 0.6  # so an overlap of float32(0.6) would exceed a threshold kept in double
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 6]])
    kept = ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.6)[1]
    assert kept.tolist() == [0, 1]


@pytest.mark.parametrize("offset", [0, 1])
def test_nms_over_several_blocks_equals_the_loop(offset, monkeypatch):
    monkeypatch.setattr("ziggurat.mmcv_ops.boxes.NMS_BLOCK", 7)
    boxes, scores = random_boxes(60, 3, "spread")
    kept = ops.nms(torch.tensor(boxes), torch.tensor(scores), 0.3, offset=offset)[1]
    assert kept.tolist() == loop_nms(boxes, scores, 0.3, offset)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("offset", [0, 1])
def test_nms_takes_nothing_views_and_half_types(offset, device):
    empty = torch.zeros(0, 4, device=device)
    dets, kept = ops.nms(empty, empty[:, 0], 0.5, offset=offset)
    assert dets.shape == (0, 5) and kept.shape == (0,) and kept.dtype == torch.long

    boxes, scores = random_boxes(30, 1, "grid")
    expected = loop_nms(boxes, scores, 0.4, offset)
    wide = torch.tensor(np.column_stack([boxes, scores]), device=device)
    assert ops.nms(wide[:, :4], wide[:, 4], 0.4, offset=offset)[1].tolist() == expected
    for dtype in (
        torch.float16,
        torch.bfloat16,
    ):  # small whole numbers are exact in them
        assert ops.nms(wide[:, :4].to(dtype), wide[:, 4].to(dtype), 0.4, offset=offset)[1].tolist() == expected


@pytest.mark.parametrize("device", DEVICES)
def test_batched_nms_suppresses_within_a_class_only(device):
    boxes, scores = random_boxes(50, 4, "spread")
    classes = np.arange(50) % 3
    dets, kept = ops.batched_nms(
        *(torch.tensor(values, device=device) for values in (boxes, scores, classes)),
        {"type": "nms", "iou_threshold": 0.3},
    )
    expected = []
    for c in range(3):
        mine = np.flatnonzero(classes == c)
        expected += [int(mine[i]) for i in loop_nms(boxes[mine], scores[mine], 0.3, 0)]
    assert kept.tolist() == sorted(expected, key=lambda i: -scores[i])
    assert torch.equal(dets[:, 4].cpu(), torch.tensor(scores)[kept.cpu()])


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
@pytest.mark.parametrize("kind", ["grid", "spread"])
def test_softnms_follows_the_loop(kind, method, offset):
    for seed in range(8):
        boxes, scores = random_boxes(40, seed, kind)
        for min_score in (0.0, 1e-3, 0.3):
            dets, kept = ops.soft_nms(boxes, scores, 0.3, 0.5, min_score, method, offset)
            table = loop_softnms(boxes, scores, 0.3, 0.5, min_score, method, offset)
            assert kept.tolist() == [row[2] for row in table]
            assert dets.shape == (len(table), 5)
            np.testing.assert_array_equal(dets[:, :4], [row[0] for row in table])
            np.testing.assert_array_equal(dets[:, 4], [row[1] for row in table])


def test_softnms_fills_the_front_of_dets_and_leaves_the_rest():
    boxes, scores = (torch.tensor(values) for values in random_boxes(20, 0, "spread"))
    before = scores.clone()
    dets = torch.full((20, 5), 7.0)
    kept = ext.softnms(
        boxes,
        scores,
        dets,
        iou_threshold=0.3,
        sigma=0.5,
        min_score=0.4,
        method=1,
        offset=0,
    )
    assert 0 < len(kept) < 20
    assert torch.equal(dets[: len(kept), :4], boxes[kept]) and (dets[len(kept) :] == 7).all()
    assert torch.equal(scores, before)


def test_softnms_of_nothing_and_of_one():
    dets, kept = ops.soft_nms(torch.zeros(0, 4), torch.zeros(0))
    assert dets.shape == (0, 5) and kept.shape == (0,) and kept.dtype == torch.long
    dets, kept = ops.soft_nms(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([1e-9]), min_score=0.5)
    assert kept.tolist() == [0]  # the best box is never compared with min_score


@pytest.mark.parametrize("kind", ["grid", "spread"])
def test_nms_match_groups_by_score(kind):
    for seed in range(12):
        boxes, scores = random_boxes(30, seed, kind)
        dets = np.column_stack([boxes, scores])
        for threshold in (0.25, 0.5):
            expected = loop_match(boxes, scores, threshold)
            assert [group.tolist() for group in ops.nms_match(dets, threshold)] == expected
            assert [group.tolist() for group in ops.nms_match(torch.tensor(dets), threshold)] == expected
    assert ops.nms_match(torch.zeros(0, 5), 0.5) == []


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("mode", ["iou", "iof"])
def test_bbox_overlaps_is_pairwise_or_aligned(mode, offset, device):
    first, _ = random_boxes(9, 5, "spread")
    second, _ = random_boxes(9, 6, "spread")
    expected = np.array([[iou(a, b, offset, mode) for b in second] for a in first])
    a, b = (torch.tensor(boxes, device=device) for boxes in (first, second))
    np.testing.assert_allclose(ops.bbox_overlaps(a, b, mode, offset=offset).cpu(), expected, atol=1e-6)
    np.testing.assert_allclose(
        ops.bbox_overlaps(a, b, mode, aligned=True, offset=offset).cpu(),
        expected.diagonal(),
        atol=1e-6,
    )
    half = ops.bbox_overlaps(a.half(), b.half(), mode, offset=offset)
    assert half.dtype == torch.float16
    np.testing.assert_allclose(half.float().cpu(), expected, atol=2e-2)
    assert ops.bbox_overlaps(a[:0], b).shape == (0, 9)

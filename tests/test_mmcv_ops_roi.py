"""RoIAlign and RoIPool equal mmcv's loops, gradients included: adaptive grids, regions outside the map, ties."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import REGIONS
from torch.autograd import gradcheck

from ziggurat import mmcv_ops

mmcv_ops.install()

from mmcv import ops  # noqa: E402
from mmcv.ops.roi_align import ext_module as ext  # noqa: E402

pytestmark = pytest.mark.numeric

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
ROIS = [*REGIONS, [0, 5.2, 6.1, 5.9, 6.6]]  # the last one is smaller than a pixel
SCALE = 0.25


def sample(plane, y, x):
    """Bilinear value and its four (row, column, weight)."""
    height, width = plane.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0, []
    y, x = max(y, 0.0), max(x, 0.0)
    y_low, x_low = int(y), int(x)
    if y_low >= height - 1:
        y_low = y_high = height - 1
        y = float(y_low)
    else:
        y_high = y_low + 1
    if x_low >= width - 1:
        x_low = x_high = width - 1
        x = float(x_low)
    else:
        x_high = x_low + 1
    ly, lx = y - y_low, x - x_low
    parts = [
        (y_low, x_low, (1 - ly) * (1 - lx)),
        (y_low, x_high, (1 - ly) * lx),
        (y_high, x_low, ly * (1 - lx)),
        (y_high, x_high, ly * lx),
    ]
    return sum(plane[r, c] * w for r, c, w in parts), parts


def loop_align(maps, rois, pooled, scale, ratio, mode, aligned, grad):
    """Output and gradient of the maps, in double."""
    out = np.zeros((len(rois), maps.shape[1], *pooled))
    grad_maps = np.zeros(maps.shape)
    for k, (b, *box) in enumerate(rois):
        x1, y1, x2, y2 = (c * scale - (0.5 if aligned else 0) for c in box)
        w, h = x2 - x1, y2 - y1
        if not aligned:
            w, h = max(w, 1.0), max(h, 1.0)
        bin_h, bin_w = h / pooled[0], w / pooled[1]
        grid_h, grid_w = (ratio, ratio) if ratio > 0 else (math.ceil(bin_h), math.ceil(bin_w))
        for c in range(maps.shape[1]):
            for ph in range(pooled[0]):
                for pw in range(pooled[1]):
                    samples = [
                        sample(
                            maps[int(b), c],
                            y1 + ph * bin_h + (iy + 0.5) * bin_h / grid_h,
                            x1 + pw * bin_w + (ix + 0.5) * bin_w / grid_w,
                        )
                        for iy in range(grid_h)
                        for ix in range(grid_w)
                    ]
                    g = grad[k, c, ph, pw]
                    if mode == "avg":
                        count = max(len(samples), 1)
                        out[k, c, ph, pw] = sum(value for value, _ in samples) / count
                    elif samples:
                        samples = [max(samples, key=lambda s: s[0])]  # the first of equals
                        out[k, c, ph, pw], count = samples[0][0], 1
                    else:
                        out[k, c, ph, pw] = -10000
                    for _, parts in samples:
                        for r, col, weight in parts:
                            grad_maps[int(b), c, r, col] += g * weight / count
    return out, grad_maps


def loop_pool(maps, rois, pooled, scale, grad):
    out = np.zeros((len(rois), maps.shape[1], *pooled))
    argmax = np.zeros(out.shape, int)
    grad_maps = np.zeros(maps.shape)
    height, width = maps.shape[2:]
    for k, (b, *box) in enumerate(rois):
        x1, y1, x2, y2 = (
            box[0] * scale,
            box[1] * scale,
            (box[2] + 1) * scale,
            (box[3] + 1) * scale,
        )
        for c in range(maps.shape[1]):
            plane = maps[int(b), c]
            for ph in range(pooled[0]):
                for pw in range(pooled[1]):
                    if x2 > x1 and y2 > y1:
                        bin_h, bin_w = (y2 - y1) / pooled[0], (x2 - x1) / pooled[1]
                        rows = range(
                            max(math.floor(ph * bin_h + y1), 0),
                            min(math.ceil((ph + 1) * bin_h + y1), height),
                        )
                        cols = range(
                            max(math.floor(pw * bin_w + x1), 0),
                            min(math.ceil((pw + 1) * bin_w + x1), width),
                        )
                        best, at = -math.inf, -1
                        for r in rows:
                            for col in cols:
                                if plane[r, col] > best:
                                    best, at = plane[r, col], r * width + col
                        out[k, c, ph, pw] = best if at >= 0 else 0
                        argmax[k, c, ph, pw] = at
                    if argmax[k, c, ph, pw] >= 0:
                        grad_maps[int(b), c].flat[argmax[k, c, ph, pw]] += grad[k, c, ph, pw]
    return out, argmax, grad_maps


def maps_and_grad(pooled, dtype, device, tied=False):
    maps = torch.randint(0, 3, (2, 3, 7, 9)).double() if tied else torch.randn(2, 3, 7, 9, dtype=torch.float64)
    grad = torch.randn(len(ROIS), 3, *pooled, dtype=torch.float64)
    rois = torch.tensor(ROIS, dtype=torch.float64)
    return [tensor.to(dtype).to(device) for tensor in (maps, grad, rois)]


def as_numpy(*tensors):
    return [tensor.detach().double().cpu().numpy() for tensor in tensors]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_roi_align_equals_the_loop(mode, ratio, aligned, device):
    pooled = (3, 2)
    for dtype, tolerance in (
        (torch.float64, 1e-12),
        (torch.float32, 1e-5),
        (torch.float16, 2e-2),
    ):
        maps, grad, rois = maps_and_grad(pooled, dtype, device)
        if dtype == torch.float16:
            rois = rois[rois[:, 3] != 8]  # a grid of no samples gives -10000 exactly: float32 and double show that
            grad = grad[: len(rois)]
        maps.requires_grad_()
        out = ops.RoIAlign(pooled, SCALE, ratio, mode, aligned)(maps, rois)
        out.backward(grad)
        assert out.dtype == dtype
        arrays = as_numpy(maps, rois, grad)
        expected, expected_grad = loop_align(*arrays[:2], pooled, SCALE, ratio, mode, aligned, arrays[2])
        if device == "cuda":
            expected[expected == -10000] = -torch.finfo(torch.float32).max
        np.testing.assert_allclose(*as_numpy(out), expected, rtol=tolerance, atol=tolerance)
        if dtype != torch.float16 or mode == "avg":  # rounded coordinates may move a maximum to its neighbour
            np.testing.assert_allclose(*as_numpy(maps.grad), expected_grad, rtol=tolerance, atol=3 * tolerance)


@pytest.mark.parametrize("device", DEVICES)
def test_max_roi_align_gives_the_gradient_to_the_first_of_equal_samples(device):
    maps = torch.ones(1, 1, 6, 6, device=device, requires_grad=True)
    rois = torch.tensor([[0.0, 0, 0, 4, 4]], device=device)
    ops.roi_align(maps, rois, (1, 1), 1.0, 4, "max", False).sum().backward()
    expected = torch.zeros(6, 6)
    expected[0, 0], expected[0, 1], expected[1, 0], expected[1, 1] = (
        0.25,
        0.25,
        0.25,
        0.25,
    )  # the sample at (0.5, 0.5)
    assert torch.equal(maps.grad[0, 0].cpu(), expected)


@pytest.mark.parametrize("device", DEVICES)
def test_max_roi_align_records_where_the_maximum_lay(device):
    maps = torch.zeros(1, 1, 6, 6, device=device)
    maps[0, 0, 2, 3] = 1
    rois = torch.tensor([[0.0, 0, 0, 6, 6]], device=device)
    out, y, x = (torch.zeros(1, 1, 1, 1, device=device) for _ in range(3))
    ext.roi_align_forward(
        maps, rois, out, y, x, aligned_height=1, aligned_width=1, spatial_scale=1.0, sampling_ratio=6, pool_mode=0,
        aligned=True,
    )  # fmt: skip
    assert (out.item(), y.item(), x.item()) == (1.0, 2.0, 3.0)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("tied", [False, True])
def test_roi_pool_equals_the_loop(tied, device):
    pooled = (3, 2)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        maps, grad, rois = maps_and_grad(pooled, dtype, device, tied)
        rois[4, 3:] = rois[4, 1:3] - 20  # malformed: nothing is written, and argmax stays as mmcv prefilled it
        maps.requires_grad_()
        out = ops.RoIPool(pooled, SCALE)(maps, rois)
        out.backward(grad)
        arrays = as_numpy(maps, rois, grad)
        expected, _, expected_grad = loop_pool(*arrays[:2], pooled, SCALE, arrays[2])
        assert (expected == 0).any()
        np.testing.assert_array_equal(*as_numpy(out), expected)
        np.testing.assert_allclose(*as_numpy(maps.grad), expected_grad, atol=tolerance)


@pytest.mark.parametrize("device", DEVICES)
def test_roi_pool_records_pixels_and_empty_bins(device):
    maps, _, rois = maps_and_grad((2, 2), torch.float32, device)
    out = torch.zeros(len(ROIS), 3, 2, 2, device=device)
    argmax = torch.full(out.shape, 5, dtype=torch.int, device=device)
    ext.roi_pool_forward(maps, rois, out, argmax, pooled_height=2, pooled_width=2, spatial_scale=SCALE)
    _, expected, _ = loop_pool(*as_numpy(maps, rois), (2, 2), SCALE, np.zeros(out.shape))
    assert (expected == -1).any()
    np.testing.assert_array_equal(argmax.cpu(), expected)


@pytest.mark.parametrize("device", DEVICES)
def test_roi_pool_bins_of_whole_pixels_take_none_of_the_next(device):
    """21 / 7 is 3, and not a rounding more, which would reach into the next pixel."""
    maps = torch.randn(1, 3, 21, 21, device=device)
    out = ops.RoIPool((7, 7), 1.0)(maps, torch.tensor([[0.0, 0, 0, 20, 20]], device=device))
    assert torch.equal(out, F.max_pool2d(maps, 3))


@pytest.mark.parametrize("device", DEVICES)
def test_small_chunks_change_nothing(device, monkeypatch):
    maps, _, rois = maps_and_grad((2, 2), torch.float32, device)
    rois = rois.repeat(3, 1)
    layers = ops.RoIAlign((2, 2), SCALE, 0, "max"), ops.RoIPool((2, 2), SCALE)
    whole = [layer(maps, rois) for layer in layers]
    monkeypatch.setattr("ziggurat.mmcv_ops.regions.CHUNK", 1)
    for layer, expected in zip(layers, whole, strict=True):
        assert torch.equal(layer(maps, rois), expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "layer",
    [ops.RoIAlign((2, 2)), ops.RoIAlign((2, 2), pool_mode="max"), ops.RoIPool((2, 2))],
)
def test_no_regions_give_no_output_and_a_zero_gradient(layer, device):
    maps = torch.randn(1, 3, 5, 5, device=device, requires_grad=True)
    out = layer(maps, torch.zeros(0, 5, device=device))
    assert out.shape == (0, 3, 2, 2)
    out.sum().backward()
    assert not maps.grad.any()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("pool_mode", ["avg", "max"])
def test_views_are_read_and_their_gradients_written(pool_mode, device):
    maps, _, rois = maps_and_grad((2, 2), torch.float32, device)
    view = maps.to(memory_format=torch.channels_last)[:, ::2, :, 1:].requires_grad_()
    plain = view.detach().contiguous().requires_grad_()
    grad = torch.randn(2, 2, 2, len(ROIS), device=device).permute(3, 0, 1, 2)
    layer = ops.RoIAlign((2, 2), SCALE, 0, pool_mode)
    outs = [layer(x, rois) for x in (view, plain)]
    assert torch.equal(*outs)
    for out in outs:
        out.backward(grad)
    torch.testing.assert_close(view.grad, plain.grad)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("mode", ["avg", "max", "pool"])
def test_gradients_are_those_of_the_forward(mode, aligned):
    maps = torch.randn(2, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    rois = torch.tensor([[0, 1.0, 2.0, 15.0, 13.0], [1, -3.0, 0.0, 18.0, 30.0]], dtype=torch.float64)
    layer = ops.RoIPool((2, 3), SCALE) if mode == "pool" else ops.RoIAlign((2, 3), SCALE, 0, mode, aligned)
    assert gradcheck(lambda x: layer(x, rois), maps)

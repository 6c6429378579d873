"""deform_roi_pool, sync_bn and line_nms equal mmcv's loops, or PyTorch's own layers, gradients included."""

import math

import numpy as np
import pytest
import torch
from helpers import REGIONS
from torch import distributed
from torch.autograd import gradcheck

from ziggurat import mmcv_ops

mmcv_ops.install()

from mmcv import ops  # noqa: E402
from mmcv.ops.line_nms import line_nms  # noqa: E402
from mmcv.ops.sync_bn import SyncBatchNorm  # noqa: E402

pytestmark = pytest.mark.numeric

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
ROIS = [*REGIONS, [0, 20.0, 9.0, 4.0, 3.0]]  # the last one is turned around
SCALE, GAMMA, POOLED = 0.25, 0.375, (2, 3)


def corners(y, x, height, width):
    """Rows, columns and weights of the four pixels around a place, as in bilinear_interpolate_gradient."""
    if y < -1 or y > height or x < -1 or x > width:
        return None
    (y_low, y_high, ly), (x_low, x_high, lx) = (axis(y, height), axis(x, width))
    weights = [(1 - ly) * (1 - lx), (1 - ly) * lx, ly * (1 - lx), ly * lx]
    return (y_low, y_high), (x_low, x_high), weights


def axis(at, size):
    at = max(at, 0.0)
    low = int(at)
    return (size - 1, size - 1, 0.0) if low >= size - 1 else (low, low + 1, at - low)


def loop_pool(maps, rois, offset, ratio, grad):
    """Output and the gradients of maps and offset, in double, as deform_roi_pool_cuda_kernel.cuh computes them."""
    out, grad_maps, grad_offset = np.zeros(grad.shape), np.zeros(maps.shape), np.zeros((len(rois), 2, *POOLED))
    height, width = maps.shape[2:]
    for k, c, ph, pw in np.ndindex(grad.shape):
        x1, y1, x2, y2 = (side * SCALE - 0.5 for side in rois[k][1:])
        w, h = x2 - x1, y2 - y1
        bin_h, bin_w = h / POOLED[0], w / POOLED[1]
        grid_h, grid_w = (ratio, ratio) if ratio > 0 else (math.ceil(bin_h), math.ceil(bin_w))
        if offset is not None:
            x1, y1 = x1 + GAMMA * w * offset[k, 0, ph, pw], y1 + GAMMA * h * offset[k, 1, ph, pw]
        plane, count = (int(rois[k][0]), c), max(grid_h * grid_w, 1)
        for iy in range(grid_h):
            for ix in range(grid_w):
                y = y1 + ph * bin_h + (iy + 0.5) * bin_h / grid_h
                x = x1 + pw * bin_w + (ix + 0.5) * bin_w / grid_w
                found = corners(y, x, height, width)
                if found is None:
                    continue
                (y_low, y_high), (x_low, x_high), weights = found
                places = [(y_low, x_low), (y_low, x_high), (y_high, x_low), (y_high, x_high)]
                g = grad[k, c, ph, pw] / count
                v = [maps[(*plane, *place)] for place in places]
                out[k, c, ph, pw] += sum(one * weight for one, weight in zip(v, weights, strict=True)) / count
                for place, weight in zip(places, weights, strict=True):
                    grad_maps[(*plane, *place)] += g * weight
                along_x = v[3] * (y - y_low) + v[1] * (y_high - y) + v[2] * (y_low - y) + v[0] * (y - y_high)
                along_y = v[3] * (x - x_low) + v[2] * (x_high - x) + v[1] * (x_low - x) + v[0] * (x - x_high)
                grad_offset[k, 0, ph, pw] += GAMMA * w * g * along_x
                grad_offset[k, 1, ph, pw] += GAMMA * h * g * along_y
    return out, grad_maps, grad_offset


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("moved", [True, False])
def test_deform_roi_pool_equals_the_loop(moved, ratio, device, monkeypatch):
    maps, offset = torch.randn(2, 3, 7, 8, dtype=torch.float64), torch.randn(len(ROIS), 2, *POOLED).double()
    grad = torch.randn(len(ROIS), 3, *POOLED).double()
    expected = loop_pool(maps.numpy(), ROIS, offset.numpy() if moved else None, ratio, grad.numpy())
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 2e-5)):
        leaves = [t.to(device, dtype).requires_grad_() for t in ((maps, offset) if moved else (maps,))]
        arguments = (leaves[0], torch.tensor(ROIS, dtype=dtype, device=device), leaves[1] if moved else None)
        for chunk in (2**23, 1):
            monkeypatch.setattr("ziggurat.mmcv_ops.regions.CHUNK", chunk)
            out = ops.deform_roi_pool(*arguments, POOLED, SCALE, ratio, GAMMA)
            grads = torch.autograd.grad(out, leaves, grad.to(out))
            for got, wanted in zip((out, *grads), expected, strict=False):
                np.testing.assert_allclose(got.detach().cpu().double(), wanted, rtol=tolerance, atol=tolerance)


def test_deform_roi_pools_gradients_are_those_of_the_forward():
    maps = torch.randn(1, 2, 9, 9, dtype=torch.float64, requires_grad=True)
    offset = (0.1 * torch.randn(2, 2, *POOLED)).double().requires_grad_()
    rois = torch.tensor(
        [[0, 8.3, 9.1, 24.7, 26.2], [0, 6.9, 5.5, 27.3, 20.4]], dtype=torch.float64
    )  # all samples inside
    assert gradcheck(lambda m, o: ops.deform_roi_pool(m, rois, o, POOLED, SCALE, 2, GAMMA), (maps, offset))


def test_without_offset_deform_roi_pool_is_the_aligned_average():
    maps, rois = torch.randn(2, 3, 7, 8), torch.tensor(ROIS[:4])
    pooled = ops.deform_roi_pool(maps, rois, None, POOLED, SCALE, 2, GAMMA)
    torch.testing.assert_close(pooled, ops.roi_align(maps, rois, POOLED, SCALE, 2, "avg", True))
    pack = ops.ModulatedDeformRoIPoolPack(POOLED, 3, 16, SCALE, 2)
    pack(maps, rois).sum().backward()
    assert all(p.grad is not None for p in pack.parameters())
    assert ops.deform_roi_pool(maps, rois[:0], None, POOLED, SCALE).shape == (0, 3, *POOLED)


@pytest.fixture
def one_process():
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_sync_bn_of_one_process_is_batch_norm(momentum, dtype, one_process):
    ours, plain = SyncBatchNorm(4, momentum=momentum), torch.nn.BatchNorm2d(4, momentum=momentum)
    with torch.no_grad():
        plain.weight.copy_(ours.weight)
        ours.bias.copy_(plain.bias.normal_())
    tolerance = dict(rtol=1e-5, atol=1e-5) if dtype == torch.float32 else dict(rtol=4e-3, atol=4e-3)
    for size in (5, 1, 3):
        x = (3 * torch.randn(2, 4, size, size) + 1).to(dtype).requires_grad_()
        y = x.detach().float().requires_grad_()
        got, wanted = ours(x), plain(y)
        assert got.dtype == dtype
        torch.testing.assert_close(got.float(), wanted, **tolerance)
        grad = torch.randn_like(wanted)
        got.backward(grad.to(dtype))
        wanted.backward(grad.to(dtype).float())
        torch.testing.assert_close(x.grad.float(), y.grad, **tolerance)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, **tolerance)
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, **tolerance)
    torch.testing.assert_close(ours.eval()(x.float()), plain.eval()(x.float()), **tolerance)


@pytest.mark.parametrize("mode", ["default", "N"])
def test_sync_bn_of_an_empty_batch_leaves_the_statistics(mode, one_process):
    layer = SyncBatchNorm(4, stats_mode=mode)
    assert layer(torch.empty(0, 4, 3, 3)).shape == (0, 4, 3, 3)
    if mode == "N":
        assert not layer.running_mean.any() and (layer.running_var == 1).all()


def test_sync_bn_without_weights_or_running_statistics(one_process):
    layer = SyncBatchNorm(4, affine=False, track_running_stats=False)
    x = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(layer(x), torch.nn.functional.batch_norm(x, None, None, training=True))


def lanes(count, seed=0):
    """Lines (N, 77) in few bundles, so that many are near each other; some are short, some reach over the end."""
    generator = torch.Generator().manual_seed(seed)
    lines = torch.rand(count, 77, generator=generator)
    lines[:, 4] = torch.randint(0, 100, (count,), generator=generator)
    bundle = torch.randint(0, 4, (count,), generator=generator)
    lines[:, 5:] = 100 * bundle[:, None] + 8 * lines[:, 5:]
    return lines, torch.rand(count, generator=generator)


def loop_lines(lines, scores, threshold, top_k):
    """What CLRNet's kernel keeps, as plain loops over lines sorted by score."""

    def near(a, b):
        start_a, start_b = int(a[2] * 71 + 0.5), int(b[2] * 71 + 0.5)
        start = max(start_a, start_b)
        end = min(start_a + int(a[4]) - 1, start_b + int(b[4]) - 1, 71)
        if end < start or start < 0:
            return False
        distance = sum(abs(float(a[i]) - float(b[i])) for i in range(5 + start, 6 + end))
        return distance < threshold * (end - start + 1)

    order = sorted(range(len(lines)), key=lambda i: -scores[i])
    removed, kept, parent = set(), [], [0] * len(lines)
    for place, i in enumerate(order):
        if i in removed:
            continue
        kept.append(i)
        for j in order[place + 1 :]:
            if near(lines[i], lines[j]):
                removed.add(j)
                parent[j] = len(kept)
        parent[i] = len(kept)
        if len(kept) == top_k:
            break
    return kept, parent


@pytest.mark.parametrize("top_k", [100, 5])
@pytest.mark.parametrize("threshold", [1.0, 4.0, 60.0])
def test_line_nms_equals_the_loop(threshold, top_k):
    lines, scores = lanes(40)
    keep, number, parent = line_nms(lines, scores, threshold, top_k)
    kept, parents = loop_lines(lines.double().numpy(), scores.tolist(), threshold, top_k)
    assert keep.tolist() == kept + [0] * (40 - len(kept)) and int(number) == len(kept)
    assert parent.tolist() == parents
    assert 1 < len(kept) < 40


def test_line_nms_takes_no_lines_and_only_lines_of_77_numbers():
    keep, number, parent = line_nms(torch.zeros(0, 77), torch.zeros(0), 1.0, 5)
    assert keep.numel() == parent.numel() == int(number) == 0
    with pytest.raises(RuntimeError, match="Wrong number of offsets"):
        line_nms(torch.zeros(2, 76), torch.zeros(2), 1.0, 5)

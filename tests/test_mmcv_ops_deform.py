"""Deformable convolutions equal mmcv's loops, gradients included, also where a tap lies exactly on the outer edge."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from ziggurat import mmcv_ops

mmcv_ops.install()

from mmcv import ops  # noqa: E402

pytestmark = pytest.mark.numeric

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
# kernel, stride, padding, dilation, groups, deform_groups
GEOMETRIES = [
    ((3, 3), (1, 1), (1, 1), (1, 1), 1, 1),
    ((3, 2), (2, 1), (1, 2), (1, 2), 2, 1),
    ((2, 3), (1, 2), (0, 1), (2, 1), 1, 2),
    ((1, 1), (1, 1), (0, 0), (1, 1), 2, 2),
]


def taps(plane, y, x):
    """Value at (y, x) with zeros outside, its (row, column, weight), and its slope along y and along x."""
    height, width = plane.shape
    if y <= -1 or x <= -1 or y >= height or x >= width:
        return 0.0, [], 0.0, 0.0
    y_low, x_low = math.floor(y), math.floor(x)
    value, parts, slope_y, slope_x = 0.0, [], 0.0, 0.0
    for r, c in itertools.product((y_low, y_low + 1), (x_low, x_low + 1)):
        if 0 <= r < height and 0 <= c < width:
            weight_y, weight_x = 1 - abs(y - r), 1 - abs(x - c)
            value += plane[r, c] * weight_y * weight_x
            parts.append((r, c, weight_y * weight_x))
            slope_y += plane[r, c] * weight_x * (1 if r > y_low else -1)
            slope_x += plane[r, c] * weight_y * (1 if c > x_low else -1)
    return value, parts, slope_y, slope_x


def loop_convolution(x, offset, mask, weight, geometry, grad):
    """Output and the gradients of x, offset, mask and weight, in double. `mask` may be None."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw), groups, deform_groups = geometry
    batch, out_chans, out_h, out_w = grad.shape
    group_in, group_out, per_deform = (
        x.shape[1] // groups,
        out_chans // groups,
        x.shape[1] // deform_groups,
    )
    mask = np.ones((batch, deform_groups * kh * kw, out_h, out_w)) if mask is None else mask
    out = np.zeros(grad.shape)
    d_x, d_offset, d_mask, d_weight = (np.zeros(a.shape) for a in (x, offset, mask, weight))
    for b, o, i, j in np.ndindex(grad.shape):
        g = grad[b, o, i, j]
        for c, u, v in np.ndindex(group_in, kh, kw):
            chan = o // group_out * group_in + c
            tap = chan // per_deform * kh * kw + u * kw + v
            y = i * sh - ph + u * dh + offset[b, 2 * tap, i, j]
            z = j * sw - pw + v * dw + offset[b, 2 * tap + 1, i, j]
            value, parts, slope_y, slope_x = taps(x[b, chan], y, z)
            w, m = weight[o, c, u, v], mask[b, tap, i, j]
            out[b, o, i, j] += w * m * value
            d_weight[o, c, u, v] += g * m * value
            d_mask[b, tap, i, j] += g * w * value
            d_offset[b, 2 * tap, i, j] += g * w * m * slope_y
            d_offset[b, 2 * tap + 1, i, j] += g * w * m * slope_x
            for r, col, part in parts:
                d_x[b, chan, r, col] += g * w * m * part
    return out, d_x, d_offset, d_mask, d_weight


def operands(geometry, dtype, device, offsets, batch=2):
    (kh, kw), (sh, sw), (ph, pw), (dh, dw), groups, deform_groups = geometry
    height, width, in_chans, out_chans = 5, 6, 4, 2
    out_h = (height + 2 * ph - dh * (kh - 1) - 1) // sh + 1
    out_w = (width + 2 * pw - dw * (kw - 1) - 1) // sw + 1
    x = torch.randn(batch, in_chans, height, width)
    offset = torch.randn(batch, 2 * deform_groups * kh * kw, out_h, out_w) * 1.5
    if offsets == "whole":  # corners on pixel centres, and taps at exactly -1
        offset = (offset * 0.5).round()
    mask = torch.rand(batch, deform_groups * kh * kw, out_h, out_w)
    weight = torch.randn(out_chans, in_chans // groups, kh, kw)
    grad = torch.randn(batch, out_chans, out_h, out_w)
    return [tensor.to(dtype).to(device) for tensor in (x, offset, mask, weight, grad)]


def check(actual, expected, tolerance):
    for tensor, array in zip(actual, expected, strict=True):
        np.testing.assert_allclose(tensor.detach().double().cpu(), array, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("offsets", ["spread", "whole"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_both_convolutions_equal_the_loop(geometry, offsets, device):
    for dtype, tolerance in (
        (torch.float64, 1e-12),
        (torch.float32, 2e-5),
        (torch.float16, 5e-2),
    ):
        x, offset, mask, weight, grad = operands(geometry, dtype, device, offsets)
        if dtype == torch.float16 and offsets == "spread":
            continue  # float16 inputs are exact only for whole offsets; the slopes jump at pixel centres
        arrays = [tensor.double().cpu().numpy() for tensor in (x, offset, mask, weight)]
        grad_array = grad.double().cpu().numpy()
        bias = torch.randn(2).to(grad)
        leaves = [tensor.requires_grad_() for tensor in (x, offset, mask, weight, bias)]

        x_, offset_, _, weight_ = arrays
        _, stride, padding, dilation, groups, deform_groups = geometry
        out = ops.deform_conv2d(x, offset, weight, stride, padding, dilation, groups, deform_groups)
        grads = torch.autograd.grad(out, [x, offset, weight], grad)
        expected = loop_convolution(x_, offset_, None, weight_, geometry, grad_array)
        assert out.dtype == dtype
        check(
            [out, *grads],
            [expected[0], expected[1], expected[2], expected[4]],
            tolerance,
        )

        out = ops.modulated_deform_conv2d(
            x,
            offset,
            mask,
            weight,
            bias,
            stride,
            padding,
            dilation,
            groups,
            deform_groups,
        )
        grads = torch.autograd.grad(out, leaves, grad)
        expected = loop_convolution(*arrays, geometry, grad_array)
        expected_out = expected[0] + bias.detach().double().cpu().numpy()[:, None, None]
        check(
            [out, *grads],
            [expected_out, *expected[1:], grad_array.sum((0, 2, 3))],
            tolerance,
        )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("pack", [ops.DeformConv2dPack, ops.ModulatedDeformConv2dPack])
def test_a_fresh_pack_is_a_plain_convolution(pack, device):
    layer = pack(4, 6, 3, stride=2, padding=1, groups=2, deform_groups=2).to(device)
    x = torch.randn(2, 4, 7, 8, device=device)
    scale = 0.5 if pack is ops.ModulatedDeformConv2dPack else 1.0  # its mask starts at sigmoid(0)
    plain = torch.nn.functional.conv2d(x, layer.weight * scale, getattr(layer, "bias", None), 2, 1, groups=2)
    torch.testing.assert_close(layer(x), plain, rtol=1e-5, atol=1e-5)
    layer(x).sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


def test_the_weight_gradient_is_right_whichever_gradients_are_asked_for():
    geometry = GEOMETRIES[0]
    x, offset, _, weight, grad = operands(geometry, torch.float64, "cpu", "spread")
    expected = loop_convolution(*(t.numpy() for t in (x, offset)), None, weight.numpy(), geometry, grad.numpy())[4]
    weight.requires_grad_()
    out = ops.deform_conv2d(x, offset, weight, 1, 1)  # only the weight
    check(torch.autograd.grad(out, [weight], grad), [expected], 1e-12)
    x.requires_grad_()
    out = ops.deform_conv2d(x, offset, weight, 1, 1)  # twice through one graph, with another gradient
    first = torch.autograd.grad(out, [weight], grad, retain_graph=True)
    second = torch.autograd.grad(out, [weight], 2 * grad)
    check([*first, *second], [expected, 2 * expected], 1e-12)


def test_im2col_steps_and_views_change_nothing():
    x, offset, mask, weight, _ = operands(GEOMETRIES[0], torch.float32, "cpu", "spread", batch=4)
    whole = ops.deform_conv2d(x, offset, weight, 1, 1)
    assert torch.equal(ops.deform_conv2d(x, offset, weight, 1, 1, 1, 1, 1, False, 2), whole)
    views = [tensor.to(memory_format=torch.channels_last) for tensor in (x, offset, mask, weight)]
    torch.testing.assert_close(ops.deform_conv2d(views[0], views[1], views[3], 1, 1), whole)


@pytest.mark.parametrize("geometry", GEOMETRIES[:2])
def test_gradients_are_those_of_the_forward(geometry):
    _, stride, padding, dilation, groups, deform_groups = geometry
    x, offset, mask, weight, _ = operands(geometry, torch.float64, "cpu", "spread", batch=1)
    leaves = [tensor.requires_grad_() for tensor in (x, offset, mask, weight)]
    rest = (stride, padding, dilation, groups, deform_groups)
    assert gradcheck(lambda x, o, m, w: ops.modulated_deform_conv2d(x, o, m, w, None, *rest), leaves, fast_mode=True)
    del leaves[2]
    assert gradcheck(lambda x, o, w: ops.deform_conv2d(x, o, w, *rest), leaves, fast_mode=True)


def test_larger_offset_and_mask_maps_are_read_from_their_start():
    """DyHead gives the offsets of a finer map: compiled operators read them with the strides of the output."""
    geometry = GEOMETRIES[1]
    x, offset, mask, weight, grad = operands(geometry, torch.float64, "cpu", "spread")
    larger = [torch.randn(2, t.shape[1], t.shape[2] + 2, t.shape[3] + 3, dtype=torch.float64) for t in (offset, mask)]
    laid = [t.flatten(1)[:, : s[0].numel()].view(s.shape) for t, s in zip(larger, (offset, mask), strict=True)]
    expected = loop_convolution(*(t.numpy() for t in (x, *laid, weight)), geometry, grad.numpy())
    leaves = [t.requires_grad_() for t in (x, *larger, weight)]
    _, stride, padding, dilation, groups, deform_groups = geometry
    out = ops.modulated_deform_conv2d(*leaves, None, stride, padding, dilation, groups, deform_groups)
    grads = torch.autograd.grad(out, leaves, grad)
    check([out, grads[0], grads[3]], [expected[0], expected[1], expected[4]], 1e-12)
    for got, wanted in zip(grads[1:3], expected[2:4], strict=True):
        read = wanted[0].size
        check([got.flatten(1)[:, :read]], [wanted.reshape(2, -1)], 1e-12)
        assert not got.flatten(1)[:, read:].any() and got.flatten(1)[:, read:].numel()


def test_maps_that_are_too_small_or_of_other_channels_are_refused():
    x, offset, mask, weight, _ = operands(GEOMETRIES[0], torch.float32, "cpu", "spread")
    for bad in ((offset[..., :-1], mask), (offset, mask[:, :, 1:]), (torch.cat([offset, offset], 1), mask)):
        with pytest.raises(RuntimeError):
            ops.modulated_deform_conv2d(x, *bad, weight, None, 1, 1)
    with pytest.raises(RuntimeError):  # compiled operators check the plain convolution's offsets
        ops.deform_conv2d(x, torch.nn.functional.pad(offset, (0, 1)), weight, 1, 1)

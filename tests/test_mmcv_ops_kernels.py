"""Focal losses, deformable attention, CARAFE, masked convolution and PSA masks equal mmcv's kernels, written as loops.

Each operator runs through mmcv.ops' own functions. Values and gradients are compared with the loop; gradcheck runs in
double.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from ziggurat import mmcv_ops

mmcv_ops.install()

from mmcv import ops  # noqa: E402
from mmcv.ops.carafe import ext_module as ext  # noqa: E402
from mmcv.ops.multi_scale_deform_attn import (  # noqa: E402
    MultiScaleDeformableAttnFunction,
    multi_scale_deformable_attn_pytorch,
)

pytestmark = pytest.mark.numeric

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
FLT_MIN = 1.17549435e-38
PRECISIONS = [
    (torch.float64, 1e-12),
    (torch.float32, 1e-5),
    (torch.float16, 1e-2),
    (torch.bfloat16, 5e-2),
]


def near(actual, expected, tolerance):
    np.testing.assert_allclose(actual.detach().double().cpu(), expected, rtol=tolerance, atol=tolerance)


def loop_sigmoid_loss(logits, targets, weights, gamma, alpha):
    """In the type of `logits`: near certainty, 1 - p is what limits the kernel in float32."""
    loss, slope = np.zeros(logits.shape), np.zeros(logits.shape)
    for n, c in np.ndindex(logits.shape):
        p = 1 / (1 + np.exp(-logits[n, c]))
        log_p, log_n = np.log(max(p, FLT_MIN)), np.log(max(1 - p, FLT_MIN))
        if targets[n] == c:
            loss[n, c] = -alpha * (1 - p) ** gamma * log_p
            slope[n, c] = -alpha * (1 - p) ** gamma * (1 - p - gamma * p * log_p)
        else:
            loss[n, c] = -(1 - alpha) * p**gamma * log_n
            slope[n, c] = -(1 - alpha) * p**gamma * (gamma * (1 - p) * log_n - p)
        if weights is not None:
            loss[n, c] *= weights[targets[n]]
            slope[n, c] *= weights[targets[n]]
    return loss, slope


def loop_softmax_loss(logits, targets, weights, gamma, alpha):
    loss, slope = np.zeros(len(logits)), np.zeros(logits.shape)
    for n, row in enumerate(logits):
        exp = [np.exp(value - max(row)) for value in row]
        probabilities = [value / sum(exp) for value in exp]
        t = targets[n]
        if t < 0:
            continue
        p = probabilities[t]
        log_p = np.log(max(p, FLT_MIN))
        w = 1 if weights is None else weights[t]
        loss[n] = -alpha * (1 - p) ** gamma * log_p * w
        factor = alpha * (-((1 - p) ** gamma) + gamma * (1 - p) ** (gamma - 1) * p * log_p) * w
        for c, probability in enumerate(probabilities):
            slope[n, c] = factor * ((c == t) - probability)
    return loss, slope


LOSSES = [
    (ops.sigmoid_focal_loss, loop_sigmoid_loss),
    (ops.softmax_focal_loss, loop_softmax_loss),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("gamma, alpha", [(2.0, 0.25), (1.5, 0.75)])
@pytest.mark.parametrize("function, loop", LOSSES)
def test_focal_losses_equal_the_loop(function, loop, gamma, alpha, weighted, device):
    for dtype, tolerance in PRECISIONS:
        logits = (torch.randn(7, 4) * 3).to(dtype).to(device).requires_grad_()
        background = 4 if function is ops.sigmoid_focal_loss and not weighted else 3
        targets = torch.tensor([0, 1, 2, 3, 1, background, 0], device=device)
        if function is ops.softmax_focal_loss and not weighted:
            targets[2] = -1  # ignored
        weights = torch.rand(4).to(dtype).to(device) + 0.5 if weighted else None
        numbers = torch.float32 if dtype == torch.float32 else torch.float64
        arrays = [None if t is None else t.detach().to(numbers).cpu().numpy() for t in (logits, targets, weights)]
        expected, slope = loop(arrays[0], targets.tolist(), arrays[2], gamma, alpha)

        loss = function(logits, targets, gamma, alpha, weights, "none")
        assert loss.dtype == dtype
        near(loss, expected, tolerance)
        for reduction, count in (("sum", 1), ("mean", 7)):
            logits.grad = None
            loss = function(logits, targets, gamma, alpha, weights, reduction)
            loss.backward()
            near(loss, expected.sum() / count, 10 * tolerance)
            near(logits.grad, slope / count, tolerance)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("function", [ops.sigmoid_focal_loss, ops.softmax_focal_loss])
def test_focal_losses_of_extreme_logits_are_finite(function, device):
    logits = torch.tensor(
        [[200.0, -200.0], [-200.0, 200.0], [90.0, -95.0]],
        device=device,
        requires_grad=True,
    )
    targets = torch.tensor([0, 0, 1], device=device)
    loss = function(logits, targets, 2.0, 0.25, None, "sum")
    loss.backward()
    array = logits.detach().double().cpu().numpy()
    # In float32, 1 - sigmoid(90) is 0 and its logarithm that of FLT_MIN; in double it is not.
    expected = (
        0.25 * 87.336544 * 2 + 0.75 * 87.336544 * 2 if function is ops.sigmoid_focal_loss else 0.25 * 87.336544 * 2
    )
    near(loss, expected, 1e-5)
    assert logits.grad.isfinite().all() and array.shape == (3, 2)


@pytest.mark.parametrize("layer", [ops.SigmoidFocalLoss(2.0, 0.25), ops.SoftmaxFocalLoss(2.0, 0.25)])
def test_focal_loss_layers_pass_gradcheck_and_take_no_samples(layer):
    targets = torch.tensor([0, 2, 1, 2, 0])
    logits = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: layer(x, targets), logits)
    layer.reduction = "sum"
    empty = torch.zeros(0, 3, requires_grad=True)
    layer(empty, targets[:0]).backward()
    assert empty.grad.shape == (0, 3)


def test_a_target_beyond_the_background_is_refused():
    with pytest.raises(RuntimeError, match="target 9 is out of range"):
        ops.sigmoid_focal_loss(torch.zeros(2, 3), torch.tensor([0, 9]))


SHAPES = [(4, 5), (2, 3)]


def loop_attention(value, locations, weights, grad):
    """Output and gradients in double; a sample counts when it lies strictly within a pixel of the level."""
    batch, _, heads, dim = value.shape
    queries, points = locations.shape[1], locations.shape[4]
    out = np.zeros((batch, queries, heads * dim))
    d_value, d_locations, d_weights = (np.zeros(array.shape) for array in (value, locations, weights))
    starts = np.cumsum([0, *(h * w for h, w in SHAPES)])
    for b, q, m, level, k in np.ndindex(batch, queries, heads, len(SHAPES), points):
        height, width = SHAPES[level]
        x = locations[b, q, m, level, k, 0] * width - 0.5
        y = locations[b, q, m, level, k, 1] * height - 0.5
        if not (-1 < x < width and -1 < y < height):
            continue
        own, weight = slice(m * dim, (m + 1) * dim), weights[b, q, m, level, k]
        g = grad[b, q, own]
        x_low, y_low = math.floor(x), math.floor(y)
        for r, c in itertools.product((y_low, y_low + 1), (x_low, x_low + 1)):
            if not (0 <= r < height and 0 <= c < width):
                continue
            row = starts[level] + r * width + c
            part_y, part_x = 1 - abs(y - r), 1 - abs(x - c)
            vector = value[b, row, m]
            out[b, q, own] += weight * part_y * part_x * vector
            d_value[b, row, m] += weight * part_y * part_x * g
            d_weights[b, q, m, level, k] += part_y * part_x * (g @ vector)
            d_locations[b, q, m, level, k, 0] += (1 if c > x_low else -1) * part_y * weight * width * (g @ vector)
            d_locations[b, q, m, level, k, 1] += (1 if r > y_low else -1) * part_x * weight * height * (g @ vector)
    return out, d_value, d_locations, d_weights


def attention_inputs(dtype, device, where="spread"):
    shapes = torch.tensor(SHAPES, device=device)
    starts = torch.tensor([0, 20], device=device)
    value = torch.randn(2, 26, 3, 4)
    locations = torch.rand(2, 5, 3, 2, 2, 2) * 1.6 - 0.3
    if where == "edges":  # exactly on pixel centres, and exactly a pixel outside: -0.5 / size
        extent = torch.tensor([[w, h] for h, w in SHAPES]).view(2, 1, 2)
        locations = (torch.randint(-1, 4, locations.shape) + 0.5) / extent
    weights = torch.rand(2, 5, 3, 2, 2)
    tensors = [tensor.to(dtype).to(device).requires_grad_() for tensor in (value, locations, weights)]
    return tensors[0], shapes, starts, tensors[1], tensors[2], 64


@pytest.mark.parametrize("device", DEVICES)
def test_deformable_attention_equals_the_loop(device):
    for dtype, tolerance in [(torch.float64, 1e-12), (torch.float32, 2e-5)]:
        inputs = attention_inputs(dtype, device)
        leaves = [inputs[0], inputs[3], inputs[4]]
        out = MultiScaleDeformableAttnFunction.apply(*inputs)
        grad = torch.randn(out.shape).to(out)
        actual = [out, *torch.autograd.grad(out, leaves, grad)]
        arrays = [tensor.detach().double().cpu().numpy() for tensor in (*leaves, grad)]
        for tensor, expected in zip(actual, loop_attention(*arrays), strict=True):
            near(tensor, expected, tolerance)
        reference = multi_scale_deformable_attn_pytorch(inputs[0], inputs[1], inputs[3], inputs[4])
        torch.testing.assert_close(out, reference, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_a_sample_exactly_a_pixel_outside_has_no_gradient(device):
    inputs = attention_inputs(torch.float64, device, where="edges")
    with torch.no_grad():
        inputs[3].clamp_(max=5)
        inputs[3][:, :, :, 0, :, 0] = -0.5 / 5  # x = -1 on level 0
    # (-0.5 / 5) * 5 - 0.5 is exactly -1 in double
    out = MultiScaleDeformableAttnFunction.apply(*inputs)
    grads = torch.autograd.grad(out.sum(), [inputs[3], inputs[4]])
    assert not any(grad[:, :, :, 0].any() for grad in grads)
    assert all(grad[:, :, :, 1].any() for grad in grads)


@pytest.mark.parametrize("device", DEVICES)
def test_deformable_attention_takes_half_types_no_queries_and_views(device):
    value, shapes, starts, locations, weights, step = attention_inputs(torch.float32, device)
    expected = MultiScaleDeformableAttnFunction.apply(value, shapes, starts, locations, weights, step)
    half = MultiScaleDeformableAttnFunction.apply(value.half(), shapes, starts, locations.half(), weights.half(), step)
    assert half.dtype == torch.float16
    near(half, expected.detach().double().cpu(), 5e-2)
    half.sum().backward()
    assert value.grad.any() and locations.grad.any() and weights.grad.any()
    view = value.detach().transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.equal(
        MultiScaleDeformableAttnFunction.apply(view, shapes, starts, locations, weights, step),
        expected,
    )
    none = MultiScaleDeformableAttnFunction.apply(value, shapes, starts, locations[:, :0], weights[:, :0], step)
    assert none.shape == (2, 0, 12)


def test_deformable_attention_passes_gradcheck():
    value, shapes, starts, locations, weights, step = attention_inputs(torch.float64, "cpu")
    assert gradcheck(
        lambda v, x, w: MultiScaleDeformableAttnFunction.apply(v, shapes, starts, x, w, step),
        (value, locations, weights),
        fast_mode=True,
    )


@pytest.mark.parametrize("device", DEVICES)
def test_the_attention_layer_trains(device):
    layer = ops.MultiScaleDeformableAttention(32, 4, 2, 2, batch_first=True).to(device)
    shapes, starts = (
        torch.tensor(SHAPES, device=device),
        torch.tensor([0, 20], device=device),
    )
    query, value = (
        torch.randn(2, 5, 32, device=device),
        torch.randn(2, 26, 32, device=device),
    )
    points = torch.rand(2, 5, 2, 2, device=device)
    out = layer(
        query,
        value=value,
        reference_points=points,
        spatial_shapes=shapes,
        level_start_index=starts,
    )
    out.sum().backward()
    assert out.shape == query.shape and layer.value_proj.weight.grad.isfinite().all()


def loop_carafe(features, masks, kernel, groups, scale):
    batch, channels, height, width = features.shape
    out = np.zeros((batch, channels, height * scale, width * scale))
    for b, c, y, x in np.ndindex(out.shape):
        group = c // (channels // groups)
        for u, v in np.ndindex(kernel, kernel):
            r, col = y // scale + u - kernel // 2, x // scale + v - kernel // 2
            if 0 <= r < height and 0 <= col < width:
                out[b, c, y, x] += features[b, c, r, col] * masks[b, (group * kernel + u) * kernel + v, y, x]
    return out


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kernel, groups, scale", [(3, 2, 2), (5, 1, 2), (1, 1, 3)])
@pytest.mark.parametrize("function", [ops.carafe, ops.carafe_naive])
def test_carafe_equals_the_loop(function, kernel, groups, scale, device):
    for dtype, tolerance in PRECISIONS:
        features = torch.randn(2, 4, 3, 4).to(dtype).to(device)
        masks = torch.rand(2, groups * kernel**2, 3 * scale, 4 * scale).to(dtype).to(device)
        expected = loop_carafe(
            *(t.double().cpu().numpy() for t in (features, masks)),
            kernel,
            groups,
            scale,
        )
        out = function(features, masks, kernel, groups, scale)
        assert out.dtype == dtype
        near(out, expected, 2 * tolerance)


def test_carafe_passes_gradcheck_and_takes_an_empty_batch():
    features = torch.randn(1, 4, 3, 4, dtype=torch.float64, requires_grad=True)
    masks = torch.rand(1, 18, 6, 8, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda f, m: ops.carafe(f, m, 3, 2, 2), (features, masks))
    assert ops.carafe(features[:0], masks[:0], 3, 2, 2).shape == (0, 4, 6, 8)

    # mmcv lets the naive backward run on CUDA alone; the operators behind both agree.
    out = ops.carafe(features, masks, 3, 2, 2)
    grad = torch.randn_like(out)
    expected = torch.autograd.grad(out, (features, masks), grad)
    actual = torch.zeros_like(features), torch.zeros_like(masks)
    ext.carafe_naive_backward(grad, features, masks, *actual, kernel_size=3, group_size=2, scale_factor=2)
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("device", DEVICES)
def test_masked_convolution_is_a_convolution_where_the_mask_is_set(device):
    layer = ops.MaskedConv2d(3, 4, 3, padding=1).to(device).requires_grad_(False)
    x = torch.randn(1, 3, 5, 6, device=device)
    mask = (torch.rand(1, 5, 6) > 0.5).float().to(device)
    torch.testing.assert_close(layer(x, mask), layer(x) * mask, rtol=1e-5, atol=1e-5)
    assert not layer(x, torch.zeros_like(mask)).any()


def loop_psamask(masks, h_mask, w_mask, collect):
    batch, _, height, width = masks.shape
    out = np.zeros((batch, height * width, height, width))
    for b, h, w, u, v in np.ndindex(batch, height, width, h_mask, w_mask):
        r, c = h + u - (h_mask - 1) // 2, w + v - (w_mask - 1) // 2
        if 0 <= r < height and 0 <= c < width:
            value = masks[b, u * w_mask + v, h, w]
            if collect:
                out[b, r * width + c, h, w] = value
            else:
                out[b, h * width + w, r, c] = value
    return out


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("psa_type", ["collect", "distribute"])
@pytest.mark.parametrize("size", [(5, 7), (3, 3), (4, 2)])
def test_psa_masks_equal_the_loop(size, psa_type, device):
    layer = ops.PSAMask(psa_type, size)
    masks = torch.randn(
        2,
        size[0] * size[1],
        3,
        4,
        dtype=torch.float64,
        device=device,
        requires_grad=True,
    )
    near(
        layer(masks),
        loop_psamask(masks.detach().cpu().numpy(), *size, psa_type == "collect"),
        0,
    )
    assert layer(masks.half()).dtype == torch.float16
    assert gradcheck(layer, masks)

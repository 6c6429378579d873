"""Every fast path gives the numbers of the plain operation, values and gradients."""

import pytest
import torch
import torch.nn.functional as F

from backbones.ops import Conv1x1, depthwise, gelu
from backbones.ops.depthwise import dilated_as_dense


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (7, 10), (9, 12), (20, 8)])
@pytest.mark.parametrize(("kernel", "dilation"), [(7, 3), (5, 2), (3, 4)])
def test_dilated_depthwise_equals_conv2d(size, kernel, dilation):
    x = torch.randn(2, 6, *size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 1, kernel, kernel, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(6, dtype=torch.float64, requires_grad=True)
    plain = F.conv2d(x, weight, bias, padding=kernel // 2 * dilation, dilation=dilation, groups=6)
    fast = dilated_as_dense(x, weight, bias, dilation)
    torch.testing.assert_close(fast, plain)
    grad = torch.randn_like(plain)
    for ours, theirs in zip(
        torch.autograd.grad(fast, (x, weight, bias), grad),
        torch.autograd.grad(plain, (x, weight, bias), grad),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (7, 7), (14, 11), (30, 20)])
@pytest.mark.parametrize(("kernel", "dilation", "bias"), [(5, 1, True), (7, 1, True), (7, 1, False), (7, 3, True)])
def test_depthwise_gradients_equal_those_of_conv2d(size, kernel, dilation, bias, monkeypatch):
    monkeypatch.setattr(depthwise, "SLICE", 6 * size[0] * size[1] * 2)  # two images at a time of five
    layer = depthwise.DepthwiseConv2d(6, kernel, dilation, bias)
    x = torch.randn(5, 6, *size, requires_grad=True)
    leaves = (x, *layer.parameters())
    assert depthwise.gradient_is_slow(x, layer.weight)
    y = layer(x)
    grad = torch.randn_like(y)
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    padding = kernel // 2 * dilation
    plain = F.conv2d(exact[0], exact[1], exact[2] if bias else None, padding=padding, dilation=dilation, groups=6)
    torch.testing.assert_close(y.double(), plain, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(
        torch.autograd.grad(y, leaves, grad), torch.autograd.grad(plain, exact, grad.double()), strict=True
    ):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4)


def test_depthwise_gradients_compile_whole():
    eager = depthwise.DepthwiseConv2d(6, 7, dilation=3)
    x = torch.randn(2, 6, 20, 17, requires_grad=True)
    leaves = (x, *eager.parameters())
    compiled = torch.compile(eager, fullgraph=True, backend="aot_eager")
    for ours, theirs in zip(
        torch.autograd.grad(compiled(x).sin().sum(), leaves),
        torch.autograd.grad(eager(x).sin().sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_depthwise_gradients_can_be_differentiated_again():
    layer = depthwise.DepthwiseConv2d(3, 5)
    x = torch.randn(1, 3, 8, 8, requires_grad=True)

    def penalty(convolve):
        gradients = torch.autograd.grad(convolve(x).square().sum(), (x, layer.weight), create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in gradients), layer.weight)[0]

    ours = penalty(layer)
    theirs = penalty(lambda x: F.conv2d(x, layer.weight, layer.bias, padding=2, groups=3))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", [3, 10, 20])  # on both sides of where the matrix product ends
def test_conv1x1_equals_conv2d(side):
    layer = Conv1x1(5, 7).double()
    x = torch.randn(2, 5, side, side, dtype=torch.float64, requires_grad=True)
    plain = F.conv2d(x, layer.weight, layer.bias)
    fast = layer(x)
    torch.testing.assert_close(fast, plain)
    grad = torch.randn_like(plain)
    leaves = (x, *layer.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(fast, leaves, grad), torch.autograd.grad(plain, leaves, grad), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_gelu_overwrites_only_what_no_gradient_needs():
    x = torch.randn(5, requires_grad=True)
    kept = x.detach().clone()
    torch.testing.assert_close(gelu(x), F.gelu(kept))
    assert torch.equal(x, kept)
    with torch.no_grad():
        torch.testing.assert_close(gelu(x), F.gelu(kept))
    assert not torch.equal(x, kept)

"""Every fast path gives the numbers of the plain operation, in values and gradients."""

import pytest
import torch
import torch.nn.functional as F

from backbones import cpu
from backbones.ops import Conv1x1, depthwise
from backbones.ops.depthwise import dilated_as_dense

pytestmark = pytest.mark.numeric


def check_equal(fast, leaves, plain, plain_leaves=None, **tolerance):
    """Two results and their gradients are equal, in the type of the second."""
    torch.testing.assert_close(fast.to(plain), plain, **tolerance)
    grad = torch.randn_like(plain)
    ours = torch.autograd.grad(fast, leaves, grad.to(fast))
    theirs = torch.autograd.grad(plain, plain_leaves or leaves, grad)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.to(b), b, **tolerance)


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (7, 10), (9, 12), (20, 8)])
@pytest.mark.parametrize(("kernel", "dilation"), [(7, 3), (5, 2), (3, 4)])
def test_dilated_depthwise_equals_conv2d(size, kernel, dilation):
    x = torch.randn(2, 6, *size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 1, kernel, kernel, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(6, dtype=torch.float64, requires_grad=True)
    plain = F.conv2d(x, weight, bias, padding=kernel // 2 * dilation, dilation=dilation, groups=6)
    fast = dilated_as_dense(x, weight, bias, dilation)
    check_equal(fast, (x, weight, bias), plain)


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (7, 7), (14, 11), (30, 20)])
@pytest.mark.parametrize(("kernel", "dilation", "bias"), [(5, 1, True), (7, 1, True), (7, 1, False), (7, 3, True)])
def test_depthwise_gradients_equal_those_of_conv2d(size, kernel, dilation, bias, monkeypatch):
    monkeypatch.setattr(cpu, "GRADIENT_ELEMENTS", 6 * size[0] * size[1] * 2)  # two images at a time of five
    layer = depthwise.DepthwiseConv2d(6, kernel, dilation, bias)
    x = torch.randn(5, 6, *size, requires_grad=True)
    leaves = (x, *layer.parameters())
    assert cpu.weight_gradient_is_slow(x, layer.weight)
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    padding = kernel // 2 * dilation
    plain = F.conv2d(exact[0], exact[1], exact[2] if bias else None, padding=padding, dilation=dilation, groups=6)
    y = layer(x)
    torch.testing.assert_close(y.double(), plain, rtol=1e-4, atol=1e-5)
    check_equal(y, leaves, plain, exact, rtol=1e-4, atol=1e-4)  # of sums over all positions


def test_depthwise_gradients_compile_whole():
    eager = depthwise.DepthwiseConv2d(6, 7, dilation=3)
    x = torch.randn(2, 6, 20, 17, requires_grad=True)
    leaves = (x, *eager.parameters())
    compiled = torch.compile(eager, fullgraph=True, backend="aot_eager")
    check_equal(compiled(x), leaves, eager(x))


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
    check_equal(layer(x), (x, *layer.parameters()), F.conv2d(x, layer.weight, layer.bias))

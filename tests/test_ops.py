"""Every fast path gives the numbers of the plain operation, values and gradients."""

import pytest
import torch
import torch.nn.functional as F

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

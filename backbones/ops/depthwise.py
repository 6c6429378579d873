"""Depthwise convolution, with fast forms for two cases that are slow on a CPU: dilation, and the weight's gradient."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones import cpu
from backbones.memory_format import channels_last


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution that keeps (B, C, H, W): odd ``kernel_size``, zero padding, stride 1."""

    def __init__(self, dim: int, kernel_size: int, dilation: int = 1, bias: bool = True):
        padding = kernel_size // 2 * dilation
        super().__init__(dim, dim, kernel_size, padding=padding, dilation=dilation, groups=dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        dilation = self.dilation[0]
        if cpu.dense_is_faster(x, dilation):
            return dilated_as_dense(x, self.weight, self.bias, dilation)
        if dilation == 1 and cpu.weight_gradient_is_slow(x, self.weight):
            return DepthwiseFunction.apply(x, self.weight, self.bias)
        return super().forward(x)


def dilated_as_dense(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
    """``F.conv2d(x, weight, bias, padding=dilation * (k // 2), dilation=dilation, groups=C)`` without dilation.

    A dilated kernel meets only pixels of one phase: pixels whose row and column are equal modulo ``dilation``. Each of
    the dilation**2 phases becomes an image of its own in the batch. An undilated kernel filters these images (à trous
    convolution, Holschneider et al. 1989). The same products are summed in the same order.

    Args:
        x: (B, C, H, W), best with the channels last in memory.
        weight: (C, 1, k, k), k odd.
        bias: (C,) or None.

    Returns:
        (B, C, H, W), channels last in memory.
    """
    batch, channels, height, width = x.shape
    below, right = -height % dilation, -width % dilation
    x = x.permute(0, 2, 3, 1)
    if torch.compiler.is_compiling() or below or right:  # a graph for any size always pads, if by 0
        x = F.pad(x, (0, 0, 0, right, 0, below))  # zeros, as the padding of the convolution itself
    rows, columns = (height + below) // dilation, (width + right) // dilation
    x = x.reshape(batch, rows, dilation, columns, dilation, channels).permute(0, 2, 4, 1, 3, 5)
    x = x.reshape(-1, rows, columns, channels).permute(0, 3, 1, 2)
    if cpu.weight_gradient_is_slow(x, weight):
        x = DepthwiseFunction.apply(x, weight, bias)
    else:
        x = F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=channels)
    x = x.permute(0, 2, 3, 1).reshape(batch, dilation, dilation, rows, columns, channels).permute(0, 3, 1, 4, 2, 5)
    x = x.reshape(batch, rows * dilation, columns * dilation, channels)
    return x[:, :height, :width].permute(0, 3, 1, 2)


class DepthwiseFunction(torch.autograd.Function):
    """``F.conv2d(x, weight, bias, padding=k // 2, groups=C)`` with :func:`weight_gradient` as its weight's gradient."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=len(weight))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        dim, pad, needed = len(weight), weight.shape[-1] // 2, ctx.needs_input_grad
        if torch.is_grad_enabled():  # the gradient is to be differentiated again
            backward = torch.ops.aten.convolution_backward
            return backward(grad, x, weight, [dim], [1, 1], [pad, pad], [1, 1], False, [0, 0], dim, list(needed))
        grad = channels_last(grad)
        return (
            F.conv2d(grad, weight.flip(-1, -2), padding=pad, groups=dim) if needed[0] else None,
            weight_gradient(x, grad, weight.shape[-1]) if needed[1] else None,
            grad.sum((0, 2, 3)) if needed[2] else None,
        )


def weight_gradient(x: Tensor, grad: Tensor, kernel_size: int) -> Tensor:
    """The gradient of a depthwise convolution's weight, by depthwise convolutions.

    The gradient of one weight is the sum, over images and pixels, of ``grad`` times the shifted ``x``. For each image
    and channel these k x k sums are a convolution of ``x`` with ``grad`` as the kernel. So all sums together are one
    depthwise convolution of B * C channels. oneDNN is 3 to 10 times faster at this than at its own weight gradient.

    Args:
        x: (B, C, H, W), the convolution's input.
        grad: (B, C, H, W), the gradient of its output.
        kernel_size: k, odd.

    Returns:
        (C, 1, k, k).
    """
    batch, channels, height, width = x.shape
    step = cpu.images_per_gradient(x)
    if step < batch:
        parts = zip(x.split(step), grad.split(step))
        return torch.stack([weight_gradient(*part, kernel_size) for part in parts]).sum(0)
    # A shift by a whole height or width meets nothing, so its sum is zero.
    pad = kernel_size // 2
    if height == width == 1:  # as a convolution, this would take a hundred times as long
        return F.pad((x * grad).sum(0)[:, None], (pad, pad, pad, pad))
    top, left = min(pad, height - 1), min(pad, width - 1)
    padded = x.new_zeros(height + 2 * top, width + 2 * left, batch, channels)
    padded[top : top + height, left : left + width] = x.permute(2, 3, 0, 1)
    padded = padded.flatten(2).permute(2, 0, 1)[None]  # (1, B * C, H + 2 top, W + 2 left), channels last
    sums = F.conv2d(padded, grad.reshape(batch * channels, 1, height, width), groups=batch * channels)
    sums = sums.reshape(batch, channels, 1, 2 * top + 1, 2 * left + 1).sum(0)
    return F.pad(sums, (pad - left, pad - left, pad - top, pad - top))

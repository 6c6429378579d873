"""Depthwise convolution, where dilation costs nothing on the CPU."""

import torch.nn.functional as F
from torch import Tensor, nn


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution that keeps (B, C, H, W): odd ``kernel_size``, zero padding, stride 1, with bias."""

    def __init__(self, dim: int, kernel_size: int, dilation: int = 1):
        padding = kernel_size // 2 * dilation
        super().__init__(dim, dim, kernel_size, padding=padding, dilation=dilation, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        # oneDNN has no fast kernel for dilated depthwise convolutions, only for dense ones.
        if self.dilation[0] > 1 and x.device.type == "cpu":
            return dilated_as_dense(x, self.weight, self.bias, self.dilation[0])
        return super().forward(x)


def dilated_as_dense(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
    """``F.conv2d(x, weight, bias, padding=dilation * (k // 2), dilation=dilation, groups=C)`` by dense convolutions.

    A dilated kernel only ever meets pixels of one phase, that is of equal row and column modulo ``dilation``. So the
    dilation**2 phases become images of their own in the batch (à trous convolution, Holschneider et al. 1989), which
    an undilated kernel filters. The same products are summed in the same order.

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
    if below or right:
        x = F.pad(x, (0, 0, 0, right, 0, below))  # zeros, as the padding of the convolution itself
    rows, columns = (height + below) // dilation, (width + right) // dilation
    x = x.reshape(batch, rows, dilation, columns, dilation, channels).permute(0, 2, 4, 1, 3, 5)
    x = x.reshape(-1, rows, columns, channels).permute(0, 3, 1, 2)
    x = F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=channels).permute(0, 2, 3, 1)
    x = x.reshape(batch, dilation, dilation, rows, columns, channels).permute(0, 3, 1, 4, 2, 5)
    x = x.reshape(batch, rows * dilation, columns * dilation, channels)
    return x[:, :height, :width].permute(0, 3, 1, 2)

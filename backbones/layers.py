"""Layers that more than one network uses. Maps are (B, C, H, W)."""

import torch.nn.functional as F
from torch import Tensor, nn

from backbones.fuse import fold_norm_after
from backbones.ops import Conv1x1, DepthwiseConv2d, conv_gelu


class DropPath(nn.Module):
    """In training, sets a residual branch to 0 for each image with probability ``rate``, and scales the kept ones.

    Source: Huang et al., Deep Networks with Stochastic Depth, arXiv 1603.09382.
    """

    def __init__(self, rate: float = 0.0):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(1.0 - self.rate)
        return x * keep.div_(1.0 - self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3f}"


def drop_path_rates(rate: float, depths: tuple[int, ...]) -> list[list[float]]:
    """One drop path rate per block, as [stage][block]: a linear ramp from 0 at the first block to ``rate``."""
    total = sum(depths)
    ramp = [rate * i / max(total - 1, 1) for i in range(total)]
    starts = [sum(depths[:stage]) for stage in range(len(depths))]
    return [ramp[start : start + depth] for start, depth in zip(starts, depths, strict=True)]


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of a (B, C, H, W) map. The result has the memory format of the input."""

    def forward(self, x: Tensor) -> Tensor:
        y = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        y = y.permute(0, 3, 1, 2)
        return y.contiguous() if x.is_contiguous() else y


class ConvMLP(nn.Module):
    """1x1 to the hidden width, depthwise 3x3, GELU, 1x1 back: (B, C, H, W) to the same shape."""

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = Conv1x1(dim, hidden_dim)
        self.dw = DepthwiseConv2d(hidden_dim, 3)
        self.fc2 = Conv1x1(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(conv_gelu(self.dw, self.fc1(x)))


class SingleValueNorm:
    """Makes a BatchNorm accept a single value per channel in training.

    One image of 32x32 pixels gives such a batch at stride 32. A single value has no variance. So the batch is
    normalised by the running statistics, which stay as they are.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


class BatchNorm1d(SingleValueNorm, nn.BatchNorm1d):
    pass


class BatchNorm2d(SingleValueNorm, nn.BatchNorm2d):
    pass


class ConvNorm(nn.Sequential):
    """A padded convolution and its BatchNorm: (B, in, H, W) to (B, out, ceil(H / stride), ceil(W / stride))."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups)
        self.norm = BatchNorm2d(out_channels)

    def fuse(self) -> None:
        """Folds the norm into the convolution."""
        if isinstance(self.norm, nn.Identity):
            return
        fold_norm_after(self.conv, self.norm)
        self.norm = nn.Identity()

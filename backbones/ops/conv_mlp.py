"""The MLP with a depthwise 3x3 convolution between its layers, without its wide hidden maps in memory."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

SLICE_BYTES = 5 << 19  # of a hidden map that is worked on at a time: what stays in a core's cache between two passes
MIN_CHANNELS = 64  # of a slice, for matrix products of some size


def conv_mlp(x: Tensor, w1: Tensor, b1: Tensor, w_dw: Tensor, b_dw: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """Linear to M hidden channels, depthwise 3x3, GELU, linear back.

    On a CPU some images and some hidden channels at a time go through all of it, forward and again backward, so that
    no hidden map is ever written to main memory or kept: depthwise convolution and GELU work on each channel alone,
    and the last layer sums over channels.

    Args:
        x: (B, C, H, W), best with the channels last in memory.
        w1, b1: (M, C) and (M,), the first layer.
        w_dw, b_dw: (M, 1, 3, 3) and (M,), the convolution; its padding is zeros.
        w2, b2: (C, M) and (C,), the second layer.

    Returns:
        (B, C, H, W), channels last in memory.
    """
    plain = torch.compiler.is_compiling() or x.device.type != "cpu" or torch.is_autocast_enabled("cpu")
    if plain or x.dtype not in (torch.float32, torch.float64):
        return conv_mlp_reference(x, w1, b1, w_dw, b_dw, w2, b2)
    return SlicedConvMLP.apply(x, w1, b1, w_dw, b_dw, w2, b2)


def conv_mlp_reference(x: Tensor, w1: Tensor, b1: Tensor, w_dw: Tensor, b_dw: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """The plain form of :func:`conv_mlp`."""
    x = F.linear(x.permute(0, 2, 3, 1), w1, b1).permute(0, 3, 1, 2)
    x = F.gelu(F.conv2d(x, w_dw, b_dw, padding=1, groups=len(w1)))
    return F.linear(x.permute(0, 2, 3, 1), w2, b2).permute(0, 3, 1, 2)


class SlicedConvMLP(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w1, b1, w_dw, b_dw, w2, b2):
        ctx.save_for_backward(x, w1, b1, w_dw, b_dw, w2)
        x = x.permute(0, 2, 3, 1)
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        for images, slices in slices_of(x, len(w1)):
            result = out[images].flatten(0, 2)
            for i, m in enumerate(slices):
                hidden = convolved(inner(x[images], w1[m], b1[m]), w_dw[m], b_dw[m])
                hidden = tokens_of(torch.ops.aten.gelu_(hidden))
                torch.addmm(result if i else b2, hidden, w2[:, m].t(), out=result)
        return out.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, w1, b1, w_dw, b_dw, w2 = ctx.saved_tensors
        x, grad = x.permute(0, 2, 3, 1), grad.permute(0, 2, 3, 1)
        dx = torch.empty_like(x, memory_format=torch.contiguous_format)
        dw1, db1, dw_dw, db_dw, dw2 = (torch.zeros_like(w) for w in (w1, b1, w_dw, b_dw, w2))
        for images, slices in slices_of(x, len(w1)):
            tokens, g, result = x[images].flatten(0, 2), grad[images].flatten(0, 2), dx[images].flatten(0, 2)
            for i, m in enumerate(slices):
                hidden = inner(x[images], w1[m], b1[m])
                filtered = convolved(hidden, w_dw[m], b_dw[m])
                dw2[:, m].addmm_(g.t(), tokens_of(F.gelu(filtered)))
                d = torch.mm(g, w2[:, m]).view(*x[images].shape[:3], -1).permute(0, 3, 1, 2)
                d = torch.ops.aten.gelu_backward(d, filtered)
                db_dw[m] += tokens_of(d).sum(0)
                d, dw = torch.ops.aten.convolution_backward(
                    d, hidden, w_dw[m], None, [1, 1], [1, 1], [1, 1], False, [0, 0], len(w_dw[m]), [True, True, False]
                )[:2]
                dw_dw[m] += dw
                d = tokens_of(d)
                dw1[m].addmm_(d.t(), tokens)
                db1[m] += d.sum(0)
                if i:
                    result.addmm_(d, w1[m])
                else:
                    torch.mm(d, w1[m], out=result)
        return dx.permute(0, 3, 1, 2), dw1, db1, dw_dw, db_dw, dw2, grad.sum((0, 1, 2))


def slices_of(x: Tensor, hidden_dim: int) -> Iterator[tuple[slice, list[slice]]]:
    """Images of (B, H, W, C), and the hidden channels that are taken at a time for them."""
    batch, height, width, _ = x.shape
    image = height * width * x.element_size()
    channels = min(hidden_dim, max(MIN_CHANNELS, SLICE_BYTES // image // 32 * 32))
    channels = -(-hidden_dim // -(-hidden_dim // channels))  # slices of about equal width
    images = max(1, SLICE_BYTES // (image * channels))
    for i in range(0, batch, images):
        yield slice(i, i + images), [slice(m, m + channels) for m in range(0, hidden_dim, channels)]


def inner(x: Tensor, w1: Tensor, b1: Tensor) -> Tensor:
    """(B, H, W, C) to the hidden (B, M, H, W)."""
    return F.linear(x, w1, b1).permute(0, 3, 1, 2)


def convolved(x: Tensor, w_dw: Tensor, b_dw: Tensor) -> Tensor:
    return F.conv2d(x, w_dw, b_dw, padding=1, groups=len(w_dw))


def tokens_of(x: Tensor) -> Tensor:
    """(B, M, H, W) to (N, M), a view where the channels lie last in memory."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)

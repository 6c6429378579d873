"""The memory formats of (B, C, H, W) maps: contiguous, or with the channels last."""

from torch import Tensor


def channels_last(x: Tensor) -> Tensor:
    """``x`` with the channels last in memory. ``x`` is copied only if it has another format.

    The axes are permuted, since ``torch.func.vmap`` does not support ``contiguous(memory_format=...)``.
    """
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def in_format_of(x: Tensor, y: Tensor) -> Tensor:
    """``y`` in the memory format of ``x``: channels last if the channels of a pixel are neighbours, else contiguous."""
    return channels_last(y) if x.stride(1) == 1 else y.contiguous()

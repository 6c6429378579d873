"""How (B, C, H, W) maps lie in memory: contiguous, or with the channels last."""

from torch import Tensor


def channels_last(x: Tensor) -> Tensor:
    """``x`` with the channels last in memory; a copy only where it lies otherwise.

    The axes are moved, since ``torch.func.vmap`` knows no ``contiguous(memory_format=...)``.
    """
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def in_format_of(x: Tensor, y: Tensor) -> Tensor:
    """``y`` in the memory format of ``x``: channels last if the channels of a pixel are neighbours, else contiguous."""
    return channels_last(y) if x.stride(1) == 1 else y.contiguous()

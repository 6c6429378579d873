"""The global filter: a circular convolution over the whole map, given by its spectrum (GFNet, arXiv 2107.00645)."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from backbones import cpu
from backbones.errors import UserError
from backbones.ops.cache import CACHE
from backbones.ops.exporting import as_operand, table_type, without_autocast
from backbones.ops.resize import resized


class GlobalFilter(nn.Module):
    """Multiplies the spectrum of each channel of a (B, C, H, W) map by a learned one, in float32 or float64.

    The learned spectrum is stored for one map size. For other sizes it is resized (bilinear, corners aligned), as in
    the official code. Training resizes it in every step. Eval mode keeps the resized spectrum until the weights change.
    After writing to the weights through ``.data`` in eval mode, call ``eval()`` again: such a write leaves no trace.

    Args:
        dim: channels C.
        size: height and width of the stored spectrum, such as (14, 8) for a map of 14 x 14. A map of h x 2(w - 1)
            pixels has a spectrum of (h, w).

    Attributes:
        fft: True transforms by FFT. False transforms by matrix products in real arithmetic. Both give the same numbers.
            None, the default, takes the faster; torch.compile and torch.export get the products.
    """

    def __init__(self, dim: int, size: tuple[int, int]):
        super().__init__()
        self.complex_weight = nn.Parameter(torch.randn(dim, *size, 2) * 0.02)
        self.fft: bool | None = None

    def forward(self, x: Tensor) -> Tensor:
        dtype = torch.promote_types(x.dtype, torch.float32)
        height, width = x.shape[2:]
        if torch.compiler.is_compiling():
            by_fft = bool(self.fft)
        else:
            by_fft = x.device.type != "cpu" or cpu.fft_is_faster(height, width) if self.fft is None else self.fft
        with without_autocast(x):
            spectrum = self.spectrum(height, width, dtype, by_fft)
            y = (filter_by_fft if by_fft else filter_by_products)(x.to(dtype), spectrum)
        return y.to(x.dtype)

    def spectrum(self, height: int, width: int, dtype: torch.dtype, by_fft: bool) -> Tensor:
        """The result of :func:`make_spectrum`, kept in eval mode."""
        weight, args = self.complex_weight, (height, width, dtype, by_fft)
        if self.training or (weight.requires_grad and torch.is_grad_enabled()):
            return make_spectrum(weight, *args)
        return CACHE.get(("spectrum", *args), lambda: (make_spectrum(weight, *args),), like=weight, source=weight)[0]

    def resize(self, size: Sequence[int]) -> None:
        """Resizes the stored spectrum to another (height, width).

        The parameter stays the same object, since an optimiser may hold it already.

        Raises:
            UserError: the parameter is sharded.
        """
        weight, size = self.complex_weight, tuple(size)
        if tuple(weight.shape[1:3]) == size:
            return
        if type(weight.data) is not Tensor:
            kind = type(weight.data).__name__
            raise UserError(f"a global filter is a {kind} and keeps its size; allowed: load it before it is sharded")
        weight.data, weight.grad = resized_filter(weight.data, size), None
        CACHE.forget(weight)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        stored = state_dict.get(f"{prefix}complex_weight")
        own = self.complex_weight.shape
        if stored is not None and stored.ndim == 4 and (stored.shape[0], stored.shape[3]) == (own[0], own[3]):
            self.resize(stored.shape[1:3])
        super()._load_from_state_dict(state_dict, prefix, *args)

    def train(self, mode: bool = True) -> "GlobalFilter":
        CACHE.forget(self.complex_weight)  # a change through .data, as of averaged weights, leaves no other trace
        return super().train(mode)


def resized_filter(weight: Tensor, size: Sequence[int]) -> Tensor:
    """A stored spectrum (C, h, w, 2) at another (height, width): bilinear, corners aligned."""
    if tuple(weight.shape[1:3]) == tuple(size):
        return weight
    values = weight.to(torch.promote_types(weight.dtype, torch.float32)).permute(3, 0, 1, 2)
    values = resized(values, tuple(size), mode="bilinear", align_corners=True)
    return values.permute(1, 2, 3, 0).to(weight.dtype).contiguous()


def make_spectrum(weight: Tensor, height: int, width: int, dtype: torch.dtype, by_fft: bool) -> Tensor:
    """Resizes a stored spectrum (C, h, w, 2) for maps of height x width. K is width // 2 + 1.

    Returns:
        (C, height, K) complex for :func:`filter_by_fft`, (2, height, K, C) for :func:`filter_by_products`.
    """
    weight, size = weight.to(dtype).permute(3, 0, 1, 2), (height, width // 2 + 1)
    weight = resized(weight, size, mode="bilinear", align_corners=True)
    if by_fft:
        return torch.view_as_complex(weight.permute(1, 2, 3, 0).contiguous())
    return weight.permute(0, 2, 3, 1).contiguous()


def filter_by_fft(x: Tensor, spectrum: Tensor) -> Tensor:
    """The plain form: a real map (B, C, H, W) and a complex spectrum (C, H, W // 2 + 1) to (B, C, H, W)."""
    y = torch.fft.rfft2(x.contiguous(), norm="ortho") * spectrum
    return torch.fft.irfft2(y, s=x.shape[2:], norm="ortho")


def filter_by_products(x: Tensor, spectrum: Tensor) -> Tensor:
    """:func:`filter_by_fft` by matrix products: a discrete Fourier transform along each axis, and back.

    Each product transforms one axis of the map. That axis gives the rows of the right operand, and all later axes give
    its columns. Real and imaginary parts are rows of the result. So the next product needs no copy.

    Args:
        x: (B, C, H, W) real, best with the channels last in memory.
        spectrum: (2, H, W // 2 + 1, C), real and imaginary parts.

    Returns:
        (B, C, H, W), channels last in memory.
    """
    batch, channels, height, width = x.shape
    half = width // 2 + 1
    along_width, along_height, back_along_height, back_along_width = dft_matrices(x)
    y = torch.matmul(along_width, x.permute(0, 2, 3, 1))
    y = torch.matmul(along_height, y.reshape(batch, 2 * height, half * channels))
    real, imag = y.view(batch, 2, height, half, channels).unbind(1)
    y = torch.stack((real * spectrum[0] - imag * spectrum[1], real * spectrum[1] + imag * spectrum[0]), dim=1)
    y = torch.matmul(back_along_height, y.view(batch, 2 * height, half * channels))
    y = torch.matmul(back_along_width, y.view(batch, height, 2 * half, channels))
    return y.permute(0, 3, 1, 2)


def dft_matrices(x: Tensor) -> tuple[Tensor, ...]:
    """The result of :func:`make_matrices` for a (B, C, H, W) map, kept for further calls."""
    args = (*x.shape[2:], x.dtype, x.device)
    return CACHE.get(("dft", *args), lambda: make_matrices(*args), like=x)


def make_matrices(height: int, width: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """The orthonormal Fourier transform of real maps and its inverse, as real matrices. K is width // 2 + 1.

    "Part" is real or imaginary. Returns four matrices:

    - along the width, (2 K, width): to K frequencies, all real parts before all imaginary ones;
    - along the height, (2 H, 2 H): from (row, part) to (part, frequency);
    - back along the height, (2 H, 2 H): from (part, frequency) to (row, part);
    - back along the width, (width, 2 K): a frequency with a mirror image counts twice.
    """
    half, wide = width // 2 + 1, table_type(dtype, height, width)
    cos_h, sin_h = dft_rows(height, height, device, wide)
    cos_w, sin_w = dft_rows(half, width, device, wide)
    along_width = torch.cat((cos_w, -sin_w))
    # (part, frequency, row, part)
    along_height = torch.stack((torch.stack((cos_h, sin_h), dim=2), torch.stack((-sin_h, cos_h), dim=2)))
    along_height = along_height.reshape(2 * height, 2 * height)
    frequency = torch.arange(half, device=device)
    images = 2 - (frequency == 0).long() - (2 * frequency == as_operand(width, frequency)).long()
    back_along_width = along_width.t() * torch.cat((images, images))
    # An orthonormal transform's inverse is its transpose.
    return tuple(m.to(dtype).contiguous() for m in (along_width, along_height, along_height.t(), back_along_width))


def dft_rows(frequencies: int, length: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine of 2 pi * frequency * place / length, over sqrt(length): two (frequencies, length)."""
    frequency, place = (torch.arange(n, device=device) for n in (frequencies, length))
    turns = frequency[:, None] * place % as_operand(length, place)
    turns = turns.to(dtype)
    length = as_operand(length, turns)
    angles = turns * (2 * math.pi / length)
    return angles.cos() / length**0.5, angles.sin() / length**0.5

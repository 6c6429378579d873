"""What the networks do otherwise on a CPU, where they may, and what was measured for it.

The figures are of float32 on two cores with AVX2. A rule decides by device and size alone and changes no result beyond
rounding. A graph that is exported or traced runs elsewhere, so it gets the plain operations; a compiled graph gets
those forms that hold for every size.
"""

from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor, nn

from backbones.memory_format import channels_last

HAS_ONEDNN = torch.backends.mkldnn.is_available()
# A batch is computed in slices, so that the widest map of a stage's blocks stays below so many bytes.
SLICE_BYTES = 16 << 20
# Up to so many positions a matrix product is faster than oneDNN's 1x1 convolution.
PRODUCT_POSITIONS = 100
# oneDNN's gradient of a depthwise weight is the faster one for kernels below this side. From it on,
# ops.depthwise.weight_gradient takes a third to a tenth of the time.
OWN_GRADIENT_KERNEL = 5
# Elements of the maps whose weight gradient is taken at once, so that they stay in the cache.
GRADIENT_ELEMENTS = 2**19
# Height + width up to which matrix products are faster than the FFT: 1.7 to 3 times at 14x14 and 7x7, as fast at
# 32x32, slower from 32x64.
PRODUCTS_UP_TO = 64
# Rows that are gathered and compared at a time, so that they stay in the cache.
GATHERED_ROWS = 2048


def runs_here(x: Tensor) -> bool:
    """Whether the operations on ``x`` run on this CPU as they are called, and are not recorded into a graph."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling() and not torch.jit.is_tracing()


def compiles_here(x: Tensor) -> bool:
    """As :func:`runs_here`, or compiled for this machine."""
    return x.device.type == "cpu" and not torch.compiler.is_exporting() and not torch.jit.is_tracing()


def in_fast_format(x: Tensor) -> Tensor:
    """A (B, C, H, W) map with the channels last in memory on a CPU, as it is elsewhere.

    The depthwise convolutions, which dominate, are several times faster so. On a GPU the format is the caller's choice.
    """
    return channels_last(x) if x.device.type == "cpu" else x


def keep_freed_memory(x: Tensor) -> None:
    """Makes the C library keep freed memory for the next map, where ``x`` is computed on this CPU."""
    if runs_here(x):
        show_a_large_block()


@cache
def show_a_large_block() -> None:
    """Frees a block of 31 MiB once; a network can be twice as fast for it.

    glibc returns a freed block to the system if the block is larger than a threshold. The threshold follows the
    largest block freed so far, up to 32 MiB. Memory that was returned is mapped anew page by page.
    """
    torch.empty(31 << 20, dtype=torch.uint8)


def slices(x: Tensor, width: int, *modules: nn.Module) -> Iterator[Tensor]:
    """The images of a batch in as many parts as keep maps of ``width`` channels below ``SLICE_BYTES``.

    The wide maps then stay in the cache. There is one part where the modules that follow need the whole batch.
    """
    parts = min(len(x), -(-x.nbytes // x.shape[1] * width // SLICE_BYTES)) if runs_here(x) else 1
    return x.tensor_split(parts) if parts > 1 and may_slice(*modules) else (x,)


def may_slice(*modules: nn.Module) -> bool:
    """Whether images may pass one after another: no norm takes statistics of the whole batch, no hook waits for it."""
    if torch.nn.modules.module._has_any_global_hook():
        return False
    return not any(
        (m.training and isinstance(m, nn.modules.batchnorm._BatchNorm))
        or m._forward_hooks
        or m._forward_pre_hooks
        or m._backward_hooks
        or m._backward_pre_hooks
        for module in modules
        for m in module.modules()
    )


def product_is_faster(x: Tensor) -> bool:
    """Whether a 1x1 convolution of a (B, C, H, W) map is computed as a matrix product."""
    return runs_here(x) and x.shape[2] * x.shape[3] <= PRODUCT_POSITIONS


def dense_is_faster(x: Tensor, dilation: int) -> bool:
    """Whether a dilated depthwise convolution is computed by dense ones: oneDNN has fast kernels for those alone."""
    return dilation > 1 and compiles_here(x)


def weight_gradient_is_slow(x: Tensor, weight: Tensor) -> bool:
    """Whether a gradient will be taken for which ``ops.depthwise.DepthwiseFunction`` has the faster way."""
    return (
        weight.requires_grad
        and torch.is_grad_enabled()
        and weight.shape[-1] >= OWN_GRADIENT_KERNEL
        and compiles_here(x)
        and x.dtype == weight.dtype == torch.float32
        and HAS_ONEDNN
        and not torch.is_autocast_enabled("cpu")
    )


def images_per_gradient(x: Tensor) -> int:
    """Images of a (B, C, H, W) batch whose weight gradient is taken at once."""
    return len(x) if torch.compiler.is_compiling() else max(1, GRADIENT_ELEMENTS // x[0].numel())


def fft_is_faster(height: int, width: int) -> bool:
    """Whether a map is transformed by FFT rather than by matrix products."""
    return height + width > PRODUCTS_UP_TO


def gathered_rows(rows: Tensor) -> tuple[Tensor, ...]:
    """Row numbers (K, n) in parts whose rows stay in the cache; a compiler fuses the comparisons instead."""
    return rows.split(GATHERED_ROWS, dim=1) if runs_here(rows) else (rows,)

"""All rules by which networks compute differently on a CPU, and the measurements behind them.

The figures were measured in float32 on two cores with AVX2. A rule looks at device and size alone. It changes results
by rounding at most. Exported and traced graphs get the plain operations, since they run on other machines. A compiled
graph gets only forms that serve every size.
"""

from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor, nn

from backbones.memory_format import channels_last

HAS_ONEDNN = torch.backends.mkldnn.is_available()
# A batch is computed in slices. The widest map of a stage's blocks then stays below this number of bytes.
SLICE_BYTES = 16 << 20
# Up to this number of positions a matrix product is faster than oneDNN's 1x1 convolution.
PRODUCT_POSITIONS = 100
# Below this kernel side oneDNN's gradient of a depthwise weight is faster than ops.depthwise.weight_gradient. From this
# side on ops.depthwise.weight_gradient takes a third to a tenth of the time.
OWN_GRADIENT_KERNEL = 5
# Elements of the maps whose weight gradient is computed at a time. Maps of this size stay in the cache.
GRADIENT_ELEMENTS = 2**19
# Up to this height + width, matrix products are faster than the FFT: 3 to 1.7 times at 7x7 and 14x14, as fast at
# 32x32, slower from 32x64.
PRODUCTS_UP_TO = 64
# Rows that are gathered and compared at a time. This number of rows stays in the cache.
GATHERED_ROWS = 2048


def runs_here(x: Tensor) -> bool:
    """Whether operations on ``x`` run on this CPU when they are called, not recorded into a graph."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling() and not torch.jit.is_tracing()


def compiles_here(x: Tensor) -> bool:
    """Whether operations on ``x`` run on this CPU, either now or in a graph compiled for it."""
    return x.device.type == "cpu" and not torch.compiler.is_exporting() and not torch.jit.is_tracing()


def in_fast_format(x: Tensor) -> Tensor:
    """A (B, C, H, W) map, with the channels last in memory if it is on a CPU.

    Depthwise convolutions dominate the time on a CPU, and are several times faster in this format. On a GPU the caller
    chooses the format.
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
    """Splits a batch (B, C, H, W) into parts in which a map of ``width`` channels stays below ``SLICE_BYTES``.

    Such maps stay in the cache. The batch is one part if ``modules``, which follow, need the whole batch.
    """
    parts = min(len(x), -(-x.nbytes // x.shape[1] * width // SLICE_BYTES)) if runs_here(x) else 1
    return x.tensor_split(parts) if parts > 1 and may_slice(*modules) else (x,)


def may_slice(*modules: nn.Module) -> bool:
    """Whether images may pass the modules in parts: no norm takes statistics of the batch, and no hook is set."""
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
    """Whether a 1x1 convolution of a (B, C, H, W) map is faster as a matrix product."""
    return runs_here(x) and x.shape[2] * x.shape[3] <= PRODUCT_POSITIONS


def dense_is_faster(x: Tensor, dilation: int) -> bool:
    """Whether a dilated depthwise convolution is faster as undilated ones. oneDNN has fast kernels only for these."""
    return dilation > 1 and compiles_here(x)


def weight_gradient_is_slow(x: Tensor, weight: Tensor) -> bool:
    """Whether ``ops.depthwise.DepthwiseFunction`` will compute the weight's gradient faster than oneDNN."""
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
    """Number of images of a (B, C, H, W) batch whose weight gradient is computed at a time."""
    return len(x) if torch.compiler.is_compiling() else max(1, GRADIENT_ELEMENTS // x[0].numel())


def fft_is_faster(height: int, width: int) -> bool:
    """Whether the FFT transforms a map faster than matrix products do."""
    return height + width > PRODUCTS_UP_TO


def gathered_rows(rows: Tensor) -> tuple[Tensor, ...]:
    """Splits row numbers (K, n) along n into parts whose rows stay in the cache.

    Compiled graphs get one part, since a compiler fuses gathering and comparing.
    """
    return rows.split(GATHERED_ROWS, dim=1) if runs_here(rows) else (rows,)

"""Gradient checkpointing: the backward pass computes a block's activations again, instead of keeping them."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def run_recomputed(block: nn.Module, x: Tensor) -> Tensor:
    """``block(x)``. The backward pass computes the activations again."""
    if torch.compiler.is_compiling():  # the compiler recomputes values alone, and updates no statistics again
        return checkpoint(block, x, use_reentrant=False)
    return checkpoint(
        block, x, use_reentrant=False, context_fn=lambda: (nullcontext(), partial(fixed_statistics, block)())
    )


@contextmanager
def fixed_statistics(block: nn.Module) -> Iterator[None]:
    """Batch norms compute as in training, but keep their statistics: the first pass has counted this batch already."""
    norms = [m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        if norm.num_batches_tracked is not None:  # SyncBatchNorm counts on this tensor
            norm.num_batches_tracked = norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count

"""What operations do otherwise in a graph that ``torch.export`` records, since other programs run that graph."""

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes


def is_exporting() -> bool:
    """Whether ``torch.export`` records a graph by running the network. Its strict mode, by dynamo, does not."""
    return torch.compiler.is_exporting() and not torch.compiler.is_dynamo_compiling()


def are_free(*sizes: Any) -> bool:
    """Whether one of several sizes, or of other values, is free in the graph that is exported."""
    return any(isinstance(size, torch.SymInt) for size in sizes)


def constants(make: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """The result of ``make``, which becomes constants of the graph that is exported, if one is.

    So the graph has none of the operations. Runtimes compute few of them in float64, or none.
    """
    if not is_exporting():
        return make()
    with _disable_current_modes(), torch.no_grad():
        return make()


def table_type(dtype: torch.dtype, *sizes: Any) -> torch.dtype:
    """The type in which a table is computed that is wanted as ``dtype``: float64, where it is computed by PyTorch.

    In a graph exported for free sizes a runtime computes the table, in ``dtype``.
    """
    return dtype if is_exporting() and are_free(*sizes) else torch.float64


def as_operand(size: int, like: Tensor) -> int | Tensor:
    """A size as an operand of a tensor operation: a tensor where the size is free in an exported graph.

    ONNX has no operations of a tensor and a free number.
    """
    if is_exporting() and are_free(size):
        return torch.full((), size, dtype=like.dtype, device=like.device)
    return size


def without_autocast(x: Tensor) -> contextlib.AbstractContextManager[Any]:
    """A block in which autocast leaves the types as they are, for operations beside ``x``.

    A recorded graph has no such block where autocast is off. It would be a graph of its own, which a file of one size
    cannot hold.
    """
    device = "cpu" if x.is_meta else x.device.type  # meta has no autocast
    if is_exporting() and not torch.is_autocast_enabled(device):
        return contextlib.nullcontext()
    return torch.autocast(device, enabled=False)

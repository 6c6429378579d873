"""How far the results of an exported file are from those of PyTorch, and how far they may be."""

from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor, nn

from backbones.graph_layers import Grapher


class Errors(NamedTuple):
    """The largest and the mean difference, each as a share of the largest magnitude of PyTorch's output."""

    largest: float
    mean: float

    def within(self, tolerance: "Tolerance") -> bool:
        return self.largest <= tolerance.largest and self.mean <= tolerance.mean


class Tolerance(NamedTuple):
    """The largest :class:`Errors` of a good export."""

    largest: float
    mean: float


# A neighbour that is as near as another one may change places with it by rounding. So single values of graph networks
# may differ as much as values do, but few of them.
TOLERANCES = {"float32": Tolerance(1e-3, 1e-4), "float16": Tolerance(5e-2, 5e-3), "bfloat16": Tolerance(0.2, 2e-2)}
GRAPHS = {"float32": Tolerance(1.0, 1e-2), "float16": Tolerance(2.0, 5e-2), "bfloat16": Tolerance(2.0, 0.1)}


def tolerance_of(net: nn.Module, dtype: str) -> Tolerance:
    """The tolerance for a network and the type that it computes in, such as ``"float32"``."""
    has_graphs = any(isinstance(module, Grapher) for module in net.modules())
    return (GRAPHS if has_graphs else TOLERANCES)[dtype]


def errors_of(ours: Tensor | Iterable[Tensor], theirs: Tensor | Iterable[Tensor]) -> Errors:
    """The errors of the worst output.

    Args:
        ours: the outputs of a file: one tensor, or several.
        theirs: PyTorch's, as many of the same shapes. NaN, or another shape, is an infinite error.
    """
    ours, theirs = ([t] if isinstance(t, Tensor) else list(t) for t in (ours, theirs))
    if [t.shape for t in ours] != [t.shape for t in theirs]:
        return Errors(float("inf"), float("inf"))
    largest, mean = 0.0, 0.0
    for a, b in zip(ours, theirs, strict=True):
        difference = (a.double() - b.double()).abs() / b.double().abs().max().clamp_min(1e-30)
        if not difference.isfinite().all():
            return Errors(float("inf"), float("inf"))
        largest, mean = max(largest, difference.max().item()), max(mean, difference.mean().item())
    return Errors(largest, mean)

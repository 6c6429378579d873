"""How far the results of an exported file are from those of PyTorch, and how far they may be."""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from backbones.graph_layers import Grapher

Compare = Callable[[Any, Any], "Errors"]
Inputs = Tensor | tuple[Tensor, ...]  # of a network: one, or several


class Errors(NamedTuple):
    """How far results are from PyTorch's.

    Attributes:
        largest, mean: the differences, each as a share of the largest magnitude of PyTorch's output.
        missed: the share of found objects that only one of the two has, see :mod:`backbones.export.matching`.
    """

    largest: float
    mean: float
    missed: float = 0.0

    def within(self, tolerance: "Tolerance") -> bool:
        return all(found <= allowed for found, allowed in zip(self, tolerance, strict=True))


class Tolerance(NamedTuple):
    """The largest :class:`Errors` of a good export."""

    largest: float
    mean: float
    missed: float = 0.0


TOLERANCES = {
    "float32": Tolerance(1e-3, 1e-4, missed=0.02),
    "float16": Tolerance(5e-2, 5e-3),  # found objects are of float32 alone
    "bfloat16": Tolerance(0.2, 2e-2),
}
DRAWS = 4  # copies of an image on which PyTorch's own error is measured, too
OF_OWN = 5  # times PyTorch's own error by rounding that a graph network may have


def has_graphs(net: nn.Module) -> bool:
    """Whether a network has graphs. Rounding changes their neighbours, and thereby single values by any amount."""
    return any(isinstance(module, Grapher) for module in net.modules())


def own_errors(net: nn.Module, inputs: Sequence[Inputs], compare: Compare) -> Errors:
    """PyTorch's errors by rounding, beside a copy of the network in float64.

    They are the worst over inputs, and over images that are rounded otherwise. A single image may happen to meet no
    choice that rounding changes.
    """
    exact = copy.deepcopy(net).double()
    found = []
    for x in inputs:
        image, *others = (x,) if isinstance(x, Tensor) else x
        wanted = exact(image.double(), *(other.double() for other in others))
        found += [compare(net(rounded, *others), wanted) for rounded in (image, *rounded_otherwise(image))]
    return worst_of(found)


def rounded_otherwise(image: Tensor) -> list[Tensor]:
    """Copies of an image whose values are some units in the last place apart from it."""
    noise = torch.Generator().manual_seed(0)
    unit = torch.finfo(image.dtype).eps
    return [image * (1 + unit * torch.randn(image.shape, generator=noise).to(image)) for _ in range(DRAWS)]


def tolerance_for(
    net: nn.Module, dtype: str, inputs: Sequence[Inputs], compare: Compare | None = None, by_own: bool = False
) -> Tolerance:
    """The tolerance for a network and the type that it computes in, such as ``"float32"``.

    Rounding may change what a network chooses. So the mean error of a graph network may also be a few times PyTorch's
    own, and its single values may have any error.

    Args:
        net: the network.
        dtype: the type.
        inputs: of the network, on which it is beside a copy in float64.
        compare: gives the errors of outputs; :func:`errors_of` by default.
        by_own: allow the errors of a network without graphs to be a few times PyTorch's own, too.
    """
    tolerance = TOLERANCES[dtype]
    if not has_graphs(net) and not by_own:
        return tolerance
    own = own_errors(net, inputs, compare or errors_of)
    wide = Tolerance(*(allowed + OF_OWN * value for allowed, value in zip(tolerance, own, strict=True)))
    return wide._replace(largest=float("inf")) if has_graphs(net) else wide


def worst_of(found: Iterable[Errors]) -> Errors:
    """The largest of each figure."""
    return Errors(*(max(values) for values in zip(*found, strict=True)))


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

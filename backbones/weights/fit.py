"""Whether the tensors of a file fit a network, and the one-line error if they do not."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from backbones import convert
from backbones.errors import UserError
from backbones.places import place_of
from backbones.weights.network import Network
from backbones.weights.source import Opened

TABLE_TOLERANCE = 2e-6  # mmpretrain makes relative_pos in float32, which is 6.6e-7 off the official table


def check_fit(
    opened: Opened, backbone: Network, names: Mapping[str, str], target: Mapping[str, Tensor], missing: list[str]
) -> None:
    """Raises UserError where a tensor is missing, unexpected or of another shape.

    Args:
        opened: the weights.
        backbone: the network to load.
        names: name in the weights -> name in the model.
        target: the model's tensors by name.
        missing: names of the model's tensors that the weights do not give, or give in another shape.
    """
    state, found, left = opened.found.tensors, opened.format, set(missing)
    optional = {key for key, name in names.items() if not needed(backbone, name.removeprefix("backbone."))}
    taken = {key for key, name in names.items() if name in target and name not in left}
    expected = taken | found.beside | optional
    unexpected = [key for key in state if key not in expected]
    has_norms = any("out_norms." in name for name in names.values())  # else they start fresh, as in published recipes
    may_miss = ("head.",) if has_norms else ("head.", "out_norms.", "backbone.out_norms.")
    missing = [n for n in missing if not n.startswith(may_miss) and not n.endswith("num_batches_tracked")]
    if missing or unexpected:
        shapes = {n: (tuple(state[key].shape), tuple(target[n].shape)) for key, n in names.items() if n in missing}
        unexpected = [key for key in unexpected if names.get(key) not in shapes]
        missing = [n for n in missing if n not in shapes]
        unexpected = [opened.found.keys[key] for key in unexpected]
        reason = differences(backbone.arch, missing, unexpected, shapes)
        like = max(backbone.ARCHS, key=lambda arch: count_if_fits(type(backbone), arch, state))
        fits = like != backbone.arch and count_if_fits(type(backbone), like, state)
        hint = f"; it fits {like}" if fits else ""
        raise UserError(f"{opened.where} does not fit {backbone.arch}: {reason}{hint}")


def needed(backbone: Network, name: str) -> bool:
    """Whether a tensor belongs to the part of the backbone that was built.

    False for tensors of a head, and of stages and blocks that no returned map needs.
    """
    i, _, block = place_of(name)
    if i is None:
        return not name.startswith(("head.", "out_norms."))
    block = block or 0
    return i < len(backbone.stages) and not len(backbone.stages[i].blocks) <= block < backbone.depths[i]


def check_values(where: str, key: str, stored: Tensor, target: Tensor) -> None:
    """Raises UserError if a stored tensor cannot be copied into ``target`` as it is meant.

    Floating-point weights take no booleans, integers or complex numbers. Sparse tensors are refused. So are tensors of
    the meta device, which have no values.
    """
    if stored.is_meta and not target.is_meta:
        raise UserError(f"{where}: tensor {key} is on the meta device and has no values; allowed: any other device")
    if stored.layout != torch.strided:
        raise UserError(f"{where}: tensor {key} is {stored.layout}; allowed: a dense tensor")
    if target.is_floating_point() and not stored.is_floating_point():
        raise UserError(f"{where}: tensor {key} is of type {stored.dtype}; allowed: floating-point types")


def check_computed(where: str, key: str, stored: Tensor, computed: Tensor) -> None:
    """Raises UserError if a stored table differs from the computed one by more than rounding in the stored type."""
    if stored.shape != computed.shape:
        theirs, ours = tuple(stored.shape), tuple(computed.shape)
        raise UserError(f"{where}: table {key} has shape {theirs}; allowed: {ours}, the published one")
    if stored.is_meta:
        return
    error = (stored.double() - computed.to(stored.device, torch.float64)).abs().max().item()
    rounding = torch.finfo(stored.dtype).eps * computed.abs().max().item() if stored.element_size() < 4 else 0.0
    if not error <= TABLE_TOLERANCE + rounding:
        raise UserError(f"{where}: table {key} differs from the published construction by {error:.2g}; allowed: equal")


def same_shape(a: Tensor, b: Tensor) -> bool:
    """Whether two shapes are equal up to trailing ones, e.g. (64, 32) of a linear layer and (64, 32, 1, 1)."""
    return without_ones(a) == without_ones(b)


def without_ones(tensor: Tensor) -> tuple[int, ...]:
    shape = tuple(tensor.shape)
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def differences(
    model: str, missing: Sequence[str], unexpected: Sequence[str], shapes: Mapping[str, tuple[tuple, tuple]]
) -> str:
    """How weights differ from a model, in words; "" if they do not.

    Args:
        model: the model's name in the words, e.g. its arch.
        missing: names of the model's tensors that the weights lack.
        unexpected: names of tensors in the weights that the model lacks.
        shapes: names of tensors of different shapes -> the shapes in the weights and in the model.
    """
    parts = []
    if shapes:
        name, (theirs, ours) = next(iter(shapes.items()))
        parts.append(f"{len(shapes)} tensors of another shape (first {name}: file {theirs}, {model} {ours})")
    for word, names in (("missing", missing), ("unexpected", unexpected)):
        if names:
            more = ", ..." if len(names) > 3 else ""
            parts.append(f"{len(names)} {word} ({', '.join(names[:3])}{more})")
    return "; ".join(parts)


def count_if_fits(family: type[nn.Module], arch: str, state: dict[str, Tensor]) -> int:
    """The number of tensors in a backbone of ``arch`` if ``state`` holds all of them in the right shapes, else 0."""
    found = convert.recognise(arch, family.ARCHS[arch], state)
    row, blocks = family.ARCHS[arch], {tuple(name.split(".")[:4]) for name in found.names.values()}
    if not all(("stages", f"{i}", "blocks", f"{depth - 1}") in blocks for i, depth in enumerate(row.depths)):
        return 0
    with torch.device("meta"):
        net = family(arch)
        net.match_structure(convert.structure(arch, row, found, state))
    target = net.state_dict()
    named = {name: state[key] for key, name in found.names.items()}
    return len(target) * all(name in named and same_shape(named[name], value) for name, value in target.items())

"""Strict loading: all of a network's tensors or none, and a report."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from torch import Tensor, nn

from backbones.checks import check_flag, check_prefix
from backbones.errors import Notice, UserError
from backbones.weights.containers import WRAPPERS
from backbones.weights.fit import check_computed, check_fit, check_values, same_shape
from backbones.weights.network import Network, backbone_of, unwrapped
from backbones.weights.source import Source, open_source, unknown_format
from backbones.weights.widen import can_widen, rule_in_words, widened


class LoadReport(NamedTuple):
    """The result of a load.

    Attributes:
        loaded: names of the model's tensors that were set.
        missing: names of the model's tensors that the file does not hold. They keep their values.
        unexpected: names in the file of tensors that were left out.
        source: the layout of the file: ``official``, ``official-seg``, ``mmseg``, ``mmpretrain``, ``huggingface`` or
            ``ziggurat``.
        place: entry and common prefix of the tensors in the file. An entry ``model_ema`` whose names begin with
            ``module.`` gives ``"model_ema.module"``. Empty if the file holds bare tensors.
        others: further sets of weights in the file, each by the word for ``which``.
        widened: how the first convolution of RGB was taken by a network of other channels, see
            :mod:`backbones.weights.widen`; "" if it was not.
    """

    loaded: list[str]
    missing: list[str]
    unexpected: list[str]
    source: str
    place: str = ""
    others: tuple[str, ...] = ()
    widened: str = ""


def load_weights(
    model: nn.Module, source: Source, strict: bool = True, which: str | None = None, prefix: str | None = None
) -> LoadReport:
    """Loads any published layout into a backbone, or into a classifier (with ``.backbone`` and ``.head``).

    The file may be another trainer's: the tensors may lie in any entry, behind a common prefix. The model may be
    wrapped by DDP, AveragedModel or torch.compile, or sharded by ``fully_shard``.

    Even a strict load leaves out these tensors, and names them in the report:

    - a head, if the model has no head, or a head for another number of classes. A classifier then warns that its head
      keeps its values;
    - everything beside the backbone in the checkpoint of a detector or segmenter;
    - stages that the model's out_indices do not need;
    - tensors that the source saves and never uses.

    A network of other channels than RGB's three takes the first convolution of RGB by the rule of
    :mod:`backbones.weights.widen`, and warns.

    Args:
        model: the network to fill, in place.
        source: a name of the weights table, a URL, a file (.pth, .safetensors, ...), or a state dict. True: the first
            weights of the arch in the table.
        strict: raise if a tensor is missing, unexpected or of another shape. False loads the tensors that fit.
        which: chooses between several sets in a file: ``"ema"`` (averaged weights, or a teacher), ``"raw"``, or the
            name of an entry. None takes the averaged set, as timm does, and warns.
        prefix: takes only tensors whose names begin with this text, e.g. ``"backbone."``. A search for the prefix is
            then not needed, but ``which`` still chooses between the sets that have the prefix.

    Returns:
        The report, also kept as ``load_report`` of the backbone.

    Raises:
        UserError: the file is absent, unsafe, cut off, or does not fit. The message names tensors and shapes. Also,
            strict or not, if a stored position table differs from the one this package computes, or if a tensor holds
            no real floating-point numbers. The model is then unchanged.
    """
    check_flag("strict", strict)
    model = unwrapped(model)
    backbone = backbone_of(model)
    if backbone.is_fused:
        raise UserError(f"{backbone.arch} is fused; load its weights before fuse()")
    opened = open_source(backbone.arch, backbone.ARCHS[backbone.arch], source, which, check_prefix(prefix))
    where, (tensors, keys, beside, *_), found = opened.where, opened.found, opened.format
    if not found.names:
        raise unknown_format(backbone.arch, opened)
    with unchanged_on_error(model):
        backbone.match_structure(opened.structure)
        names = found.names
        if backbone is not model:
            names = {key: name if name.startswith("head.") else f"backbone.{name}" for key, name in names.items()}
        held = model.state_dict()
        actual = {WRAPPERS.sub("", name): name for name in held}  # a block may be compiled alone
        target = {name: held[actual[name]] for name in actual}
        fits, words = {}, ""
        for key, name in names.items():
            if name not in target:
                continue
            own_name = name.removeprefix("backbone.")
            stored = backbone.fitted(own_name, tensors[key], target[name])
            if can_widen(own_name, stored, target[name]) and not stored.is_meta:
                words = f"{name}, {rule_in_words(target[name].shape[1])}"
                stored = widened(stored, target[name].shape[1])
            if same_shape(stored, target[name]):
                check_values(where, keys[key], stored, target[name])
                fits[name] = stored.reshape(target[name].shape)
        report = LoadReport(
            loaded=list(fits),
            missing=[name for name in target if name not in fits],
            unexpected=[keys[key] for key in tensors if names.get(key) not in fits] + beside,
            source=found.source,
            place=opened.found.place,
            others=opened.found.others,
            widened=words,
        )
        if strict:
            check_fit(opened, backbone, names, target, report.missing)
        for key, make in found.computed.items():
            check_computed(where, key, tensors[key], make())
    head = [name for name in report.missing if name.startswith("head.")]
    if head:
        warnings.warn(
            f"{where} does not fit the classifier's head: {', '.join(head)} keep their values", Notice, stacklevel=2
        )
    if report.widened:
        warnings.warn(f"{where}: {report.widened}", Notice, stacklevel=2)
    if report.others and which is None:
        words = ", ".join(f"which={other!r}" for other in report.others)
        warnings.warn(
            f"{where}: loaded {report.place or 'its own tensors'}; {words} loads the other", Notice, stacklevel=2
        )
    model.load_state_dict({actual[name]: placed(value, target[name]) for name, value in fits.items()}, strict=False)
    backbone.load_report = report
    return report


def match_structure(network: Network, source: Source, which: str | None = None) -> None:
    """Gives a network the structure of weights that it will load.

    Call this before DDP or an optimiser is built: HorNet's filters may change their shapes, and norms may come or go.
    The load that follows does not read the file again. If ``source`` is the network's own ``pretrained``, names are
    taken by its ``pretrained_prefix``, and the set by its ``which``.

    Raises:
        UserError: the file is absent, unsafe or cut off. Whether tensors fit is checked by the load.
    """
    if source is network.pretrained:
        prefix, which = network.pretrained_prefix, which or network.which
    else:
        prefix = None
    opened = open_source(network.arch, network.ARCHS[network.arch], source, which, prefix, ahead=True)
    network.match_structure(opened.structure)


def placed(value: Tensor, like: Tensor) -> Tensor:
    """``value``, spread over a mesh of devices as the parameter ``like`` is."""
    if not hasattr(like, "placements"):
        return value
    from torch.distributed.tensor import distribute_tensor

    # Every process has read the file, so no process has to send values.
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


@contextmanager
def unchanged_on_error(model: nn.Module) -> Iterator[None]:
    """If the body raises, gives every module its attributes, parameters and children back.

    The values of a parameter are given back if its shape changed. Values that were overwritten in place stay.
    """
    inner = ("_parameters", "_buffers", "_modules")
    before = [(m, vars(m) | {name: dict(vars(m)[name]) for name in inner}) for m in model.modules()]
    data = [(parameter, parameter.data) for parameter in model.parameters()]
    try:
        yield
    except BaseException:
        for module, attributes in before:
            vars(module).clear()
            vars(module).update(attributes)
        for parameter, values in data:
            if parameter.shape != values.shape:
                parameter.data = values
        raise

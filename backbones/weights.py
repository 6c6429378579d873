"""Weights: safe reading and writing, fetching, and strict loading with a report."""

import hashlib
import os
import pickle
import re
import struct
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlparse

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from backbones import convert
from backbones.errors import Notice, UserError, unknown
from backbones.pyramid import PyramidBackbone
from backbones.weights_table import WEIGHTS

TABLE_TOLERANCE = 2e-6  # mmpretrain's float32 construction of relative_pos is 6.6e-7 off the official one


class LoadReport(NamedTuple):
    """What a load did.

    Attributes:
        loaded: names of the model's tensors that were set.
        missing: names of the model's tensors that the file does not hold; they keep their values.
        unexpected: names of the file's tensors that were left out, as the file writes them.
        source: the format found: ``official``, ``official-seg``, ``mmpretrain``, ``huggingface`` or ``ziggurat``.
    """

    loaded: list[str]
    missing: list[str]
    unexpected: list[str]
    source: str


def load_weights(model: nn.Module, source: str | Path | Mapping[str, Tensor], strict: bool = True) -> LoadReport:
    """Loads any published format into a backbone, or into a classifier (with ``.backbone`` and ``.head``).

    Left out even by a strict load, and named in the report: a head where the model has none or one for another number
    of classes (a classifier then warns, since its head stays as it was), everything beside the backbone in the
    checkpoint of a detector or segmenter, stages that the model's out_indices do not need, and tensors that the
    source saves and never uses.

    Args:
        model: the network to fill, in place.
        source: a name of the weights table, a URL, a file (.pth, .safetensors, ...), or a state dict.
        strict: raise where a tensor is missing, unexpected or of another shape. False loads what fits.

    Raises:
        UserError: the file is absent, unsafe, cut off, or does not fit; the message names tensors and shapes. The
            model is unchanged then. Also for a stored table that is not the one we compute instead, strict or not.
    """
    backbone = getattr(model, "backbone", model)
    if not isinstance(backbone, PyramidBackbone):
        kind = type(model).__name__
        raise UserError(f"model is a {kind}; allowed: what create_backbone or create_classifier made, not wrapped")
    if backbone.is_fused:
        raise UserError(f"{backbone.arch} is fused; load its weights before fuse()")
    where, state = find_state(backbone.arch, source)
    found = convert.recognise(backbone.arch, backbone.ARCHS[backbone.arch], state)
    if not found.names:
        known = ", ".join((*convert.sources(backbone.arch), "ziggurat"))
        first = ", ".join(list(state)[:3]) or "empty"
        raise UserError(f"{where} holds no {backbone.arch} in any known format ({known}); its tensors begin: {first}")
    with unchanged_on_error(model):
        backbone.adopt({name: state[key] for key, name in found.names.items()}, found.source)
        names = found.names
        if backbone is not model:
            names = {key: name if name.startswith("head.") else f"backbone.{name}" for key, name in names.items()}
        target = model.state_dict()
        fits = {}
        for key, name in names.items():
            if name in target and same_shape(state[key], target[name]):
                fits[name] = state[key].reshape(target[name].shape)
        report = LoadReport(
            loaded=list(fits),
            missing=[name for name in target if name not in fits],
            unexpected=[key for key in state if names.get(key) not in fits],
            source=found.source,
        )
        if strict:
            check_fit(where, backbone, state, found, names, target, report)
        for key, make in found.computed.items():
            check_computed(where, key, state[key], make())
    head = [name for name in report.missing if name.startswith("head.")]
    if head:
        stay = f"{', '.join(head)} stay as they were"
        warnings.warn(f"{where} does not fit the classifier's head: {stay}", Notice, stacklevel=2)
    model.load_state_dict(fits, strict=False)
    backbone.load_report = report
    return report


def adopt_structure(backbone: PyramidBackbone, source: str | Path | Mapping[str, Tensor]) -> None:
    """Does the part of :func:`load_weights` that may change parameters' shapes, and nothing else.

    For those who must know the parameters before they load: DDP and optimisers.
    """
    _, state = find_state(backbone.arch, source)
    found = convert.recognise(backbone.arch, backbone.ARCHS[backbone.arch], state)
    backbone.adopt({name: state[key] for key, name in found.names.items()}, found.source)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a .safetensors file, or any other as PyTorch's format, onto the CPU without ever running code from it.

    Training records of mmengine and options of a training script inside a checkpoint come back as empty objects.

    Raises:
        UserError: no such file, cut off or of another format, or a pickle that asks for code.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no such checkpoint file: {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(harmless_globals()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; what cannot be read is refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"(?:GLOBAL|global) ([\w.]+)", str(error)) or re.search(r"instantiate (\w+)", str(error))
        if asked:
            reason = f"it asks for {asked[1]}, which can run code"
        elif "Unsupported operand" in str(error):
            reason = "it holds instructions that no weights need"
        else:
            raise UserError(f"not a checkpoint, or cut off: {path}") from None
        raise UserError(f"refused: {path} is not only weights, {reason}") from None
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, struct.error, SafetensorError) as error:
        raise UserError(f"not a checkpoint, or cut off: {path} ({type(error).__name__})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}; allowed: a dict of tensors or a training checkpoint")
    return content


def save_safely(content: dict[str, Any], path: str | Path) -> None:
    """Writes a checkpoint beside ``path`` and renames it into place, so a stop half-way loses nothing.

    A .safetensors path takes a flat dict of tensors; any other suffix what ``torch.save`` takes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if path.suffix == ".safetensors":
            save_file({name: value.contiguous() for name, value in content.items()}, beside, {"format": "pt"})
        else:
            torch.save(content, beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def find_state(arch: str, source: str | Path | Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """How to call ``source`` in a message, and its tensors by name."""
    if isinstance(source, Mapping):
        return "the state dict", tensors_of(source)
    text = str(source)
    if text in WEIGHTS:
        if text.split(".")[0] != arch:
            raise UserError(f"weights {text!r} are not of arch {arch!r}; allowed: {', '.join(names_for(arch))}")
        return text, tensors_of(read_checkpoint(fetch_named(text)))
    if "://" in text:
        return text, tensors_of(read_checkpoint(fetch(text)))
    if not Path(text).is_file() and not Path(text).suffix.startswith((".pt", ".tar", ".safetensors", ".bin")):
        raise unknown("weights name (and no such file)", text, WEIGHTS)
    return text, tensors_of(read_checkpoint(text))


def names_for(arch: str) -> list[str]:
    """The names of the weights table that belong to ``arch``."""
    return [name for name in WEIGHTS if name.split(".")[0] == arch]


def tensors_of(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a checkpoint, out of the containers in use and without DDP's ``module.`` prefix."""
    for container in ("state_dict", "model"):
        if isinstance(content.get(container), Mapping):
            content = content[container]
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    return {key.removeprefix("module."): value for key, value in tensors.items()}


@cache
def fetch_named(name: str) -> Path:
    """The file of a name of the weights table, after saying once whose it is; its mirrors are tried in turn."""
    row = WEIGHTS[name]
    if not row.urls:
        raise UserError(f"weights {name!r} can only be downloaded in a browser: {row.page}; then give the file's path")
    print(f"weights {name}: {row.terms.origin}, licence {row.terms.licence}", file=sys.stderr)
    problems = []
    for url in row.urls:
        try:
            return fetch(url)
        except UserError as error:
            problems.append(str(error))
    raise UserError(f"weights {name!r} cannot be fetched: {'; '.join(problems)}")


def fetch(url: str) -> Path:
    """The file behind a URL, kept in PyTorch's hub cache; its sha256 is checked where the name carries it.

    A name without a sha256 may stand for many files, as Hugging Face's do; those are kept under the URL's.
    """
    name = Path(urlparse(url).path).name
    digest = re.search(r"-(?!(?:19|20)\d{6}\.)([0-9a-f]{8,64})\.\w+$", name)  # eight digits like a year's are a date
    if not digest:
        name = f"{hashlib.sha256(url.encode()).hexdigest()[:8]}-{name}"
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), digest[1] if digest else None, progress=sys.stderr.isatty())
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"cannot download {url} ({error})") from None
    return path


def check_fit(
    where: str,
    backbone: PyramidBackbone,
    state: Mapping[str, Tensor],
    found: convert.Recognised,
    names: Mapping[str, str],
    target: Mapping[str, Tensor],
    report: LoadReport,
) -> None:
    """Raises UserError where a tensor is missing, unexpected or of another shape."""
    optional = {key for key, name in names.items() if not needed(backbone, name.removeprefix("backbone."))}
    unexpected = [key for key in report.unexpected if key not in found.beside | optional]
    has_norms = any("out_norms." in name for name in names.values())  # else they start fresh, as published recipes do
    may_miss = ("head.",) if has_norms else ("head.", "out_norms.", "backbone.out_norms.")
    missing = [n for n in report.missing if not n.startswith(may_miss) and not n.endswith("num_batches_tracked")]
    if missing or unexpected:
        shapes = {n: (tuple(state[key].shape), tuple(target[n].shape)) for key, n in names.items() if n in missing}
        unexpected = [key for key in unexpected if names.get(key) not in shapes]
        missing = [n for n in missing if n not in shapes]
        reason = misfit(where, backbone.arch, missing, unexpected, shapes)
        like = max(backbone.ARCHS, key=lambda arch: tensors_for(type(backbone), arch, state))
        fits = like != backbone.arch and tensors_for(type(backbone), like, state)
        raise UserError(reason + (f"; it fits {like}" if fits else ""))


def needed(backbone: PyramidBackbone, name: str) -> bool:
    """Whether a backbone tensor belongs to what was built, rather than to a head or to what no returned map needs."""
    part = re.match(r"stages\.(\d+)(?:\.blocks\.(\d+))?", name)
    if part is None:
        return not name.startswith(("head.", "out_norms."))
    i, block = int(part[1]), int(part[2] or 0)
    return i < len(backbone.stages) and not len(backbone.stages[i].blocks) <= block < backbone.depths[i]


def check_computed(where: str, key: str, stored: Tensor, computed: Tensor) -> None:
    """Raises UserError where a stored table differs, by more than its type's rounding, from what we compute instead."""
    if stored.shape != computed.shape:
        theirs, ours = tuple(stored.shape), tuple(computed.shape)
        raise UserError(f"{where}: table {key} has shape {theirs}; allowed: {ours}, the published one")
    if stored.is_meta:
        return
    error = (stored.double() - computed.to(stored.device, torch.float64)).abs().max().item()
    rounding = torch.finfo(stored.dtype).eps * computed.abs().max().item() if stored.element_size() < 4 else 0.0
    if not error <= TABLE_TOLERANCE + rounding:
        raise UserError(f"{where}: table {key} differs from the published construction by {error:.2g}; allowed: equal")


@contextmanager
def unchanged_on_error(model: nn.Module) -> Iterator[None]:
    """Gives every module its attributes, parameters and children back if the body raises.

    Of the parameters' values only what took another shape is given back.
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


def same_shape(a: Tensor, b: Tensor) -> bool:
    """Whether two shapes are equal up to trailing ones, as those of a linear layer and a 1x1 convolution are."""
    return without_ones(a) == without_ones(b)


def without_ones(tensor: Tensor) -> tuple[int, ...]:
    shape = tuple(tensor.shape)
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def misfit(
    where: str, arch: str, missing: list[str], unexpected: list[str], shapes: dict[str, tuple[tuple, tuple]]
) -> str:
    """One line that says how a checkpoint differs from the network."""
    parts = []
    if shapes:
        name, (theirs, ours) = next(iter(shapes.items()))
        parts.append(f"{len(shapes)} tensors of another shape (first {name}: file {theirs}, {arch} {ours})")
    for word, names in (("missing", missing), ("unexpected", unexpected)):
        if names:
            more = ", ..." if len(names) > 3 else ""
            parts.append(f"{len(names)} {word} ({', '.join(names[:3])}{more})")
    return f"{where} does not fit {arch}: {'; '.join(parts)}"


def tensors_for(family: type[nn.Module], arch: str, state: dict[str, Tensor]) -> int:
    """How many tensors a backbone of ``arch`` takes from the state dict; 0 if it lacks one or a shape differs."""
    found = convert.recognise(arch, family.ARCHS[arch], state)
    if not found.names:
        return 0
    with torch.device("meta"):
        net = family(arch)
        net.adopt({name: state[key] for key, name in found.names.items()}, found.source)
    target = net.state_dict()
    named = {name: state[key] for key, name in found.names.items()}
    return len(target) * all(name in named and same_shape(named[name], value) for name, value in target.items())


def harmless_globals() -> list[Any]:
    """What a training checkpoint may name besides tensors: numpy's scalars and arrays, and inert stand-ins."""
    multiarray = np._core.multiarray if hasattr(np, "_core") else np.core.multiarray
    arrays = [np.ndarray, np.dtype, *(type(np.dtype(kind)) for kind in np.typecodes["AllInteger"] + "?efdFD")]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        arrays += [(multiarray.scalar, f"{module}.scalar"), (multiarray._reconstruct, f"{module}._reconstruct")]
    # mmengine's records pickle their own methods through getattr, which would reach any attribute of anything. The
    # training scripts of timm and its kin keep their options.
    inert = ("mmengine.logging.history_buffer.HistoryBuffer", "builtins.getattr", "argparse.Namespace")
    return [*arrays, *((Inert, name) for name in inert)]


class Inert:
    """Stands in for a pickled object whose content is not wanted."""

    def __init__(self, *args: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass

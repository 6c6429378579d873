"""Weights: the table of published files, safe reading, and strict loading with a report."""

import os
import pickle
import re
import sys
import warnings
from collections.abc import Mapping
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
from backbones.errors import UserError, unknown

OPENMMLAB = "https://download.openmmlab.com/mmclassification/v0/van/"
HUGGING_FACE = "https://huggingface.co/Visual-Attention-Network/"
HALF = (0.5, 0.5, 0.5)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Weights(NamedTuple):
    """One published set of weights. ``mean`` and ``std`` are those of an RGB image in 0..1 that it was trained with."""

    urls: tuple[str, ...]  # the same weights, tried in order; a name ending in -xxxxxxxx.pth carries its sha256
    mean: tuple[float, float, float] = HALF
    std: tuple[float, float, float] = HALF
    licence: str = "Apache-2.0; its README asks commercial users to contact the authors"
    origin: str = "Visual-Attention-Network/VAN-Classification"


# Source of addresses and preprocessing: README.md and models/van.py of VAN-Classification@e19779b,
# configs/van of mmpretrain@ee7f2e8 and mmcls-0.x@4ec2509; the 22K recipe is that of LGYoung/VAN-Classification@b3e3188.
WEIGHTS = {
    "van_b0.in1k": Weights(
        (
            OPENMMLAB + "van-tiny_8xb128_in1k_20220501-385941af.pth",
            HUGGING_FACE + "VAN-Tiny-original/resolve/main/van_tiny_754.pth.tar",
        )
    ),
    "van_b1.in1k": Weights(
        (
            OPENMMLAB + "van-small_8xb128_in1k_20220501-17bc91aa.pth",
            HUGGING_FACE + "VAN-Small-original/resolve/main/van_small_811.pth.tar",
        )
    ),
    "van_b2.in1k": Weights(
        (
            OPENMMLAB + "van-base_8xb128_in1k_20220501-6a4cc31b.pth",
            HUGGING_FACE + "VAN-Base-original/resolve/main/van_base_828.pth.tar",
        )
    ),
    "van_b3.in1k": Weights(
        (
            OPENMMLAB + "van-large_8xb128_in1k_20220501-f212ba21.pth",
            HUGGING_FACE + "VAN-Large-original/resolve/main/van_large_839.pth.tar",
        )
    ),
    "van_b4.in1k": Weights((OPENMMLAB + "van-b4_3rdparty_in1k_20220909-f4665b92.pth",)),
    "van_b4.in22k": Weights((OPENMMLAB + "van-b4_3rdparty_in21k_20220909-db926b18.pth",), IMAGENET_MEAN, IMAGENET_STD),
    "van_b5.in22k": Weights((OPENMMLAB + "van-b5_3rdparty_in21k_20220909-18e904e3.pth",), IMAGENET_MEAN, IMAGENET_STD),
    "van_b6.in22k": Weights((OPENMMLAB + "van-b6_3rdparty_in21k_20220909-96c2cb3a.pth",), IMAGENET_MEAN, IMAGENET_STD),
}


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
            model is unchanged then.
    """
    backbone = getattr(model, "backbone", model)
    if backbone.is_fused:
        raise UserError(f"{backbone.arch} is fused; load its weights before fuse()")
    where, state = find_state(backbone.arch, source)
    origin, names, beside = convert.read_names(backbone.arch, backbone.depths, state)
    if not names:
        known = ", ".join((*convert.sources(backbone.arch), "ziggurat"))
        first = ", ".join(list(state)[:3]) or "empty"
        raise UserError(f"{where} holds no {backbone.arch} in any known format ({known}); its tensors begin: {first}")
    if backbone is not model:
        names = {key: name if name.startswith("head.") else f"backbone.{name}" for key, name in names.items()}

    target = model.state_dict()
    fits = {n: state[key] for key, n in names.items() if n in target and state[key].shape == target[n].shape}
    report = LoadReport(
        loaded=list(fits),
        missing=[name for name in target if name not in fits],
        unexpected=[key for key in state if names.get(key) not in fits],
        source=origin,
    )
    if strict:
        unbuilt = tuple(f"stages.{i}." for i in range(len(backbone.stages), len(backbone.depths)))
        optional = {key for key, n in names.items() if n.removeprefix("backbone.").startswith(("head.", *unbuilt))}
        unexpected = [key for key in report.unexpected if key not in beside | optional]
        missing = [n for n in report.missing if not n.startswith("head.") and not n.endswith("num_batches_tracked")]
        if missing or unexpected:
            shapes = {n: (tuple(state[key].shape), tuple(target[n].shape)) for key, n in names.items() if n in missing}
            unexpected = [key for key in unexpected if names.get(key) not in shapes]
            missing = [n for n in missing if n not in shapes]
            reason = misfit(where, backbone.arch, missing, unexpected, shapes)
            like = max(backbone.ARCHS, key=lambda arch: tensors_for(type(backbone), arch, state))
            raise UserError(reason + (f"; it fits {like}" if tensors_for(type(backbone), like, state) else ""))
    head = [name for name in report.missing if name.startswith("head.")]
    if head:
        warnings.warn(f"{where} does not fit the classifier's head: {', '.join(head)} stay as they were", stacklevel=2)
    backbone.adopt({name.removeprefix("backbone."): value for name, value in fits.items()}, origin)
    model.load_state_dict(fits, strict=False)
    backbone.load_report = report
    return report


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a .safetensors file, or any other as PyTorch's format, onto the CPU without ever running code from it.

    Training records of mmengine inside a checkpoint come back as empty objects.

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
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, SafetensorError) as error:
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
    return {key.removeprefix("module."): value for key, value in content.items() if isinstance(value, Tensor)}


@cache
def fetch_named(name: str) -> Path:
    """The file of a name of the weights table, after saying once whose it is; its mirrors are tried in turn."""
    row = WEIGHTS[name]
    print(f"weights {name}: {row.origin}, licence {row.licence}", file=sys.stderr)
    problems = []
    for url in row.urls:
        try:
            return fetch(url)
        except UserError as error:
            problems.append(str(error))
    raise UserError(f"weights {name!r} cannot be fetched: {'; '.join(problems)}")


def fetch(url: str) -> Path:
    """The file behind a URL, kept in PyTorch's hub cache; its sha256 is checked where the name carries it."""
    name = Path(urlparse(url).path).name
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        return path
    digest = re.search(r"-([0-9a-f]{8,64})\.\w+$", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), digest[1] if digest else None, progress=sys.stderr.isatty())
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"cannot download {url} ({error})") from None
    return path


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
    with torch.device("meta"):
        target = family(arch).state_dict()
    names = convert.read_names(arch, family.ARCHS[arch].depths, state)[1]
    shapes = {name: state[key].shape for key, name in names.items()}
    return len(target) * all(shapes.get(name) == value.shape for name, value in target.items())


def harmless_globals() -> list[Any]:
    """What a training checkpoint may name besides tensors: numpy's scalars and arrays, and inert stand-ins."""
    multiarray = np._core.multiarray if hasattr(np, "_core") else np.core.multiarray
    arrays = [np.ndarray, np.dtype, *(type(np.dtype(kind)) for kind in np.typecodes["AllInteger"] + "?efdFD")]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        arrays += [(multiarray.scalar, f"{module}.scalar"), (multiarray._reconstruct, f"{module}._reconstruct")]
    # mmengine's records pickle their own methods through getattr, which would reach any attribute of anything.
    return [*arrays, (Inert, "mmengine.logging.history_buffer.HistoryBuffer"), (Inert, "builtins.getattr")]


class Inert:
    """Stands in for a pickled object whose content is not wanted."""

    def __init__(self, *args: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass

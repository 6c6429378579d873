"""Files of weights: reading runs no code from a file, and writing never damages an existing file."""

import os
import pickle
import re
import struct
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from backbones.errors import Notice, UserError, shorten
from backbones.files import replaced_file
from backbones.images import SUFFIXES
from backbones.weights.archive import MAX_PARTS, check_file
from backbones.weights.digest import KEY, changed_entries, sha256_of_content, with_digests
from backbones.weights.own import from_json, to_json
from backbones.weights.pickled import STAND_INS, check_content, needless_instructions

MAX_HEADER = 100_000_000  # bytes of a .safetensors file that describe its tensors; the library takes no more
# Identity of the one file that was read ahead -> its content.
READ_AHEAD: dict[tuple[Any, ...], dict[str, Any]] = {}


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a file onto the CPU, without running code from it. The suffix .safetensors is read as such, others as .pth.

    Training records of mmengine and options of a training script come back as empty objects. A .safetensors file gives
    its tensors by name; a file of ours also gives ``meta``. A Notice says if somebody changed a file of ours.

    Raises:
        UserError: the file is absent, cut off, damaged or of another format, or its pickle asks for code.
    """
    path = Path(path)
    others = {"an image": SUFFIXES, "a config or another text": (".py", ".json", ".yaml", ".yml", ".txt", ".csv")}
    kind = next((kind for kind, suffixes in others.items() if path.name.lower().endswith(suffixes)), None)
    kind = "a folder" if path.is_dir() else kind
    if kind and path.exists():
        raise UserError(f"{path} is {kind}; a file of weights is needed here, such as a .pth or .safetensors file")
    if not path.is_file():
        raise UserError(f"no such checkpoint file: {path}")
    content = READ_AHEAD.pop(identity(path), None)
    return read_file(path) if content is None else content


def read_ahead(path: str | Path) -> dict[str, Any]:
    """Reads a file, and keeps the content for the next :func:`read_checkpoint` of the same file.

    Structure and statistics are needed before a network is built, tensors afterwards. So the file is read once. One
    content is kept at a time. The caller must not change it.
    """
    content = read_checkpoint(path)
    READ_AHEAD.clear()
    READ_AHEAD[identity(Path(path))] = content
    return content


def identity(path: Path) -> tuple[Any, ...]:
    """A key that changes when a path comes to hold another file or content."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def read_file(path: Path) -> dict[str, Any]:
    try:
        if path.suffix == ".safetensors":
            content = read_safetensors(path)
        else:
            check_file(path)
            with torch.serialization.safe_globals(STAND_INS), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # warnings about pickle protocols; unreadable files are refused below
                content = torch.load(path, map_location="cpu", weights_only=True)
            check_content(content, path)
    except UserError:
        raise
    except MemoryError:
        raise UserError(f"not a checkpoint, or cut off: {path} (it declares more than the memory holds)") from None
    except PermissionError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except Exception as error:  # a malformed file can raise any
        if isinstance(error, pickle.UnpicklingError) and "Unsupported operand" in str(error):
            raise needless_instructions(path) from None
        exported = path.with_suffix(".xml")  # of OpenVINO, which keeps the weights in .bin
        hint = f"; of an exported file give {exported}" if path.suffix == ".bin" and exported.is_file() else ""
        raise UserError(f"not a checkpoint, or cut off: {path} ({type(error).__name__}){hint}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}; allowed: a dict of tensors or a training checkpoint")
    if path.suffix != ".safetensors" and (changed := changed_entries(content)):
        warnings.warn(f"{path} was changed after it was written: {shorten(changed)}", Notice, stacklevel=3)
    return content


def read_safetensors(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        parts = file.read(min(size, MAX_HEADER)).count(b'"data_offsets"')
    if parts > MAX_PARTS:
        raise UserError(f"refused: {path} holds {parts} parts; allowed: up to {MAX_PARTS}")
    with safe_open(path, framework="pt") as file:
        content = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
        metadata = file.metadata() or {}
    if (
        KEY in metadata
        and sha256_of_content([dict(sorted(content.items())), metadata.get("ziggurat")]) != metadata[KEY]
    ):
        raise UserError(f"{path} is damaged: its tensors or their description are not what was written")
    if "ziggurat" in metadata:
        content["meta"] = {"ziggurat": from_json(metadata["ziggurat"])}
    return content


def save_safely(content: dict[str, Any], path: str | Path) -> None:
    """Writes a checkpoint beside ``path``, flushes it to the disk and renames it into place.

    A stop half-way leaves an old file as it was. A .safetensors file, and any other with ``meta``, gets checksums of
    its content, which :func:`read_checkpoint` compares.

    Args:
        content: for .safetensors a flat dict of tensors, and optionally ``meta=dict(ziggurat=...)``, which becomes JSON
            in the file's metadata. For any other suffix anything that ``torch.save`` takes.
        path: the file.

    Raises:
        OSError: the disk is full, or fails. The error names ``path``.
    """
    path = Path(path)
    try:
        with replaced_file(path, durable=True) as beside:
            write_file(content, beside, path.suffix)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def save_tensors(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Writes a .safetensors file. Raises OSError where the disk fails, of which safetensors makes its own error."""
    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:
        if not (code := re.search(r"os error (\d+)", str(error))):
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1]))) from None


def write_file(content: dict[str, Any], path: Path, suffix: str) -> None:
    """Writes a checkpoint of a suffix. Raises OSError where the disk fails, which PyTorch and safetensors do not."""
    if suffix == ".safetensors":
        tensors = {name: value.contiguous() for name, value in content.items() if name != "meta"}
        own = content.get("meta", {}).get("ziggurat")
        described = {"ziggurat": to_json(own)} if own else {}
        written = {KEY: sha256_of_content([dict(sorted(tensors.items())), described.get("ziggurat")])}
        save_tensors(tensors, path, {"format": "pt"} | described | written)
        return
    with open(path, "wb") as file:
        try:
            torch.save(with_digests(content), file)
        except RuntimeError as error:
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None

"""A source of weights, read once: the tensors for one arch, their layout, and what the source says of itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from backbones import convert
from backbones.errors import UserError, shown
from backbones.files import is_path
from backbones.weights.containers import Found, find_tensors
from backbones.weights.fetch import locate
from backbones.weights.files import read_ahead, read_checkpoint
from backbones.weights.own import read_own_meta
from backbones.weights.table import first_name

Source = str | Path | Mapping[str, Any]  # also True: the first weights of the arch in the table
OUTSIDE_TENSORS = {"norm_eps"}  # constructor's arguments that names and shapes of tensors do not show


class Opened(NamedTuple):
    """Weights for one arch.

    Attributes:
        where: the source's name in messages.
        found: the tensors for the arch.
        format: the layout of their names.
        own: the result of ``read_own_meta``; None unless the source is an own checkpoint.
        structure: the constructor's arguments that the weights fix.
    """

    where: str
    found: Found
    format: convert.Recognised
    own: dict[str, Any] | None
    structure: dict[str, Any]


def open_source(
    arch: str, row: Any, source: Source, which: str | None = None, prefix: str | None = None, ahead: bool = False
) -> Opened:
    """Reads a source and finds the tensors of an arch in it.

    Args:
        arch: the arch.
        row: its row of the arch table.
        source: a name of the weights table, a URL, a file, or a state dict or checkpoint in memory.
        which: chooses between several sets of weights, see :func:`backbones.weights.containers.find_tensors`.
        prefix: the beginning of the names to take, with a dot at its end. None takes all names.
        ahead: whether the file will be read once more, to load it. The content is kept until then.

    Raises:
        UserError: the file is absent, unsafe or cut off, or ``which`` or ``prefix`` names nothing in the file.
    """
    where, content = read_source(arch, source, ahead)
    try:
        found = find_tensors(content, convert.known(arch, row), which, prefix)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    format = convert.recognise(arch, row, found.tensors)
    structure = convert.structure(arch, row, format, found.tensors)
    own = read_own_meta(content)
    said = own and own["backbone"]
    if said and said["arch"] == arch:
        structure |= {name: said[name] for name in OUTSIDE_TENSORS & said.keys()}
    return Opened(where, found, format, own, structure)


def read_source(arch: str | None, source: Source, ahead: bool = False) -> tuple[str, Mapping[str, Any]]:
    """The name of a source for messages, and its content; arguments as for :func:`open_source`."""
    if isinstance(source, Mapping):
        return "the state dict", source
    if source is True and arch is not None:
        source = first_name(arch)
    if not isinstance(source, str | Path) or not str(source) or not is_path(str(source)):
        allowed = "True, a name of weights, a URL, a file, a state dict"
        raise UserError(f"the source of weights is {shown(source)}; allowed: {allowed}")
    path = locate(arch, source)
    return str(source), (read_ahead if ahead else read_checkpoint)(path)


def head_rows(opened: Opened) -> int | None:
    """The number of classes of the classifier in a source; None if there is no classifier."""
    last = [key for key, name in opened.format.names.items() if name in ("head.fc.weight", "head.fc2.weight")]
    return len(opened.found.tensors[last[0]]) if last else None


def unknown_format(arch: str, opened: Opened) -> UserError:
    """The error for a source without any tensor of ``arch``."""
    formats = ", ".join((*convert.sources(arch), "ziggurat"))
    first = ", ".join(list(opened.found.keys.values())[:3])
    begin = f"its tensors begin: {first}" if first else "it holds no tensors"
    return UserError(f"{opened.where} holds no {arch} in any known format ({formats}); {begin}")


def tensors_of(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a checkpoint of a whole model, such as a detector's, without DDP's ``module.`` prefix."""
    for container in ("state_dict", "model"):
        if isinstance(content.get(container), Mapping):
            content = content[container]
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    return {key.removeprefix("module."): value for key, value in tensors.items()}

"""Whether a checkpoint file is what was written."""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import safe_open

from backbones.errors import Notice, UserError
from backbones.weights.digest import KEY
from backbones.weights.files import read_checkpoint


class Verdict(NamedTuple):
    """What :func:`verified` found: ``fault``, one clause, "" for a good file, and whether the file has a SHA-256."""

    fault: str
    has_sha256: bool = False


def verified(path: Path) -> Verdict:
    """Reads a whole file, and compares its checksums with its content. No file raises."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            content = read_checkpoint(path)
        except UserError as error:
            return Verdict(str(error))
    for warning in caught:
        if issubclass(warning.category, Notice):
            return Verdict(str(warning.message))
    return Verdict("", has_sha256(path, content))


def has_sha256(path: Path, content: dict[str, Any]) -> bool:
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            return KEY in (file.metadata() or {})
    return isinstance(content.get("meta"), dict) and KEY in content["meta"]

"""SHA-256 checksums of what a checkpoint holds, which a damaged or changed file no longer matches."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

KEY = "sha256"
PLAIN = (bool, int, float, str, bytes)  # True is an int, too


def sha256_of_content(content: Any) -> str:
    """The SHA-256, in hexadecimal digits, of nested dicts, lists, tuples, tensors, numbers and texts.

    Types, order, names, shapes and every bit of a tensor count. The memory layout of a tensor and its device do not.
    """
    digest = hashlib.sha256()
    feed(digest, content)
    return digest.hexdigest()


def feed(digest: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        digest.update(f"tensor {value.dtype} {list(value.shape)};".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    elif isinstance(value, Mapping):
        digest.update(f"dict {len(value)};".encode())
        for key, part in value.items():
            feed(digest, key)
            feed(digest, part)
    elif isinstance(value, list | tuple):
        digest.update(f"{'list' if isinstance(value, list) else 'tuple'} {len(value)};".encode())
        for part in value:
            feed(digest, part)
    elif plain := next((kind for kind in PLAIN if isinstance(value, kind)), None):
        digest.update(f"{plain.__name__} {plain.__repr__(value)};".encode("utf-8", "surrogatepass"))
    else:
        digest.update(f"{type(value).__name__};".encode())


def with_digests(content: dict[str, Any]) -> dict[str, Any]:
    """A copy of a checkpoint with the checksum of each entry in ``meta["sha256"]``; without ``meta`` the same dict.

    Each entry has its own checksum. So an entry that a user removes, such as the optimiser's, leaves the others valid.
    """
    if not isinstance(content.get("meta"), dict):
        return content
    meta = {name: value for name, value in content["meta"].items() if name != KEY}
    entries = {**content, "meta": meta}
    return {**content, "meta": {**meta, KEY: {name: sha256_of_content(entry) for name, entry in entries.items()}}}


def changed_entries(content: Mapping[str, Any]) -> list[str]:
    """The entries of a checkpoint that do not match its checksums. A checkpoint without checksums has none."""
    meta = content.get("meta")
    written = meta.get(KEY) if isinstance(meta, Mapping) else None
    if not isinstance(written, Mapping):
        return []
    entries = {**content, "meta": {name: value for name, value in meta.items() if name != KEY}}
    return [str(name) for name in entries if name in written and sha256_of_content(entries[name]) != written[name]]

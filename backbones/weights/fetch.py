"""From a name of the weights table, a URL or a path to a file on this machine."""

import hashlib
import re
import sys
from functools import cache
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import torch

from backbones.errors import UserError, unknown
from backbones.weights.download import download
from backbones.weights.table import WEIGHTS, Terms, names_for

KNOWN_COPIES: set[Path] = set()  # files that this process has downloaded, or has said to be older copies


def locate(arch: str | None, source: str | Path) -> Path:
    """The file of a name of the weights table, of a URL, or of a path. A file that is not here is downloaded.

    ``file://`` addresses are paths.

    Args:
        arch: the arch that a name of the table must belong to. None takes any name.
        source: the name, the URL or the path.

    Raises:
        UserError: a name of another arch, an unknown name, or a file that cannot be downloaded.
    """
    text = str(source)
    if text in WEIGHTS:
        if arch is not None and text.split(".")[0] != arch:
            raise UserError(f"weights {text!r} are not of arch {arch!r}; allowed: {', '.join(names_for(arch))}")
        return fetch_named(text)
    if "://" in text:
        return fetch(text)
    if not Path(text).exists() and not Path(text).suffix.startswith((".pt", ".tar", ".safetensors", ".bin")):
        raise unknown("weights name (and no such file)", text, WEIGHTS)
    return Path(text)


def fetch_named(name: str) -> Path:
    """The file of a name of the weights table; UserError if no program can download the file."""
    row = WEIGHTS[name]
    if not row.urls:
        raise UserError(f"weights {name!r} can only be downloaded in a browser: {row.page}; then give the file's path")
    return fetch_first(name, row.terms, row.urls)


@cache
def fetch_first(name: str, terms: Terms, urls: tuple[str, ...]) -> Path:
    """The file of the first address that works. Origin and licence are printed once.

    Args:
        name: what the weights are called in messages.
        terms: origin and licence.
        urls: the addresses, tried in turn.

    Raises:
        UserError: no address works.
    """
    print(f"weights {name}: {terms.origin}, licence {terms.licence}", file=sys.stderr)
    problems = []
    for url in urls:
        try:
            return fetch(url)
        except UserError as error:
            problems.append(str(error))
    raise UserError(f"weights {name!r} cannot be fetched: {'; '.join(problems)}")


def fetch(url: str) -> Path:
    """Downloads a URL into PyTorch's hub cache, once. A ``file://`` address gives its path.

    A name such as ``van_b2-4f9b6c32.pth`` carries the start of the file's sha256, which is checked. Other names, such
    as Hugging Face's ``model.safetensors``, stand for many files. These are kept under ``<sha256 of the URL>-<name>``.
    The file behind such a URL may have changed since. So a note says once that the kept copy is used.

    Raises:
        UserError: the file cannot be downloaded, or as ``backbones.weights.download.download``.
    """
    parts = urlparse(url)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise UserError(f"weights are at {url}; allowed: file:/// and an absolute path of this machine")
        return Path(url2pathname(parts.path))
    path, digest = kept_at(url)
    if path.is_file():
        if not digest and path not in KNOWN_COPIES:
            print(f"weights {url}: the copy in the cache is used; remove {path} to download again", file=sys.stderr)
            KNOWN_COPIES.add(path)
        return path
    download(url, path, digest)
    KNOWN_COPIES.add(path)
    return path


def is_fetched(name: str) -> bool:
    """Whether the file of a name of the weights table is on this machine."""
    return any(kept_at(url)[0].is_file() for url in WEIGHTS[name].urls)


def kept_at(url: str) -> tuple[Path, str | None]:
    """Where a download is kept, and the start of its sha256, if the URL carries one."""
    name = Path(urlparse(url).path).name
    digest = re.search(r"-(?!(?:19|20)\d{6}\.)([0-9a-f]{8,64})\.\w+$", name)  # 20220502 is a date
    if not digest:
        name = f"{hashlib.sha256(url.encode()).hexdigest()[:8]}-{name}"
    return Path(torch.hub.get_dir()) / "checkpoints" / name, digest and digest[1]

"""Downloads: checked, whole or not at all, and once for all processes that want the same file."""

import glob
import hashlib
import os
import sys
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import HTTPRedirectHandler, Request, build_opener

import torch

from backbones.errors import UserError
from backbones.files import locked, replaced_file

CONSENT = "ZIGGURAT_INSECURE"  # an environment variable: "1" takes what anybody on the way could have changed
SECONDS = 60  # that a server may stay silent
CHUNK = 1 << 20  # bytes


def download(url: str, path: Path, digest: str | None = None, what: str = "weights", most: int | None = None) -> None:
    """Downloads a URL to a file that is not there, unless another process does so meanwhile.

    One process downloads. The others wait, and find the file. The lock of a process that is killed ends with it.

    Args:
        url: of http or https. http, and a redirect from https to http, need consent, see :func:`check_address`.
        path: the file. Its folder is made.
        digest: the first digits of the content's SHA-256, in hexadecimal; None if unknown. The content then has the
            length that the server said.
        what: what is downloaded, for messages, in the plural.
        most: the largest length in bytes that is taken; None takes any.

    Raises:
        UserError: the address is refused, the server does not give the file, the transfer was cut off, or the content
            has another SHA-256. Nothing is left at ``path``.
    """
    check_address(url, digest is not None, what=what)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path, f"{what} {path.name}: another process is downloading them") as alone:
            if alone:
                for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):  # of a process that was killed
                    left.unlink()
            if not path.is_file():
                with replaced_file(path) as beside:
                    receive(url, beside, digest, most)
    except UserError:
        raise
    except (OSError, HTTPException, ValueError) as error:
        raise UserError(f"cannot download {url} ({error or type(error).__name__})") from None


def check_address(url: str, is_checked: bool, source: str = "", what: str = "weights") -> None:
    """Raises UserError for an address whose content anybody on the way could change, unless there is consent.

    Args:
        url: the address.
        is_checked: whether the content's SHA-256 is known.
        source: the address that led to ``url`` by a redirect.
        what: what is there, for the message.
    """
    scheme = urlparse(url).scheme
    said = f"{source} leads to {url}" if source else f"{what} are at {url}"
    if scheme not in ("http", "https"):
        raise UserError(f"{said}; allowed: addresses of https and http")
    downgraded = source.startswith("https:")
    if scheme == "http" and (downgraded or not is_checked) and os.environ.get(CONSENT) != "1":
        kind = "an https: address" if downgraded else "an https: address, a file name that ends in -<sha256>.pth"
        raise UserError(f"{said}, which anybody on the way could change; allowed: {kind}, or {CONSENT}=1")


class CarefulRedirects(HTTPRedirectHandler):
    """Follows a redirect to an address that is allowed."""

    def __init__(self, is_checked: bool):
        self.is_checked = is_checked

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        check_address(newurl, self.is_checked, req.full_url)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def receive(url: str, path: Path, digest: str | None, most: int | None = None) -> None:
    """Writes the content of a URL to a file; UserError if it is cut off, too long or not what ``digest`` says."""
    request = Request(url, headers={"User-Agent": "ziggurat"})
    found, count = hashlib.sha256(), 0
    opener = build_opener(CarefulRedirects(digest is not None))
    with opener.open(request, timeout=SECONDS) as answer, path.open("wb") as file:
        length = answer.headers.get("Content-Length")
        total = int(length) if length else None
        bar = torch.hub.tqdm(total=total, disable=not sys.stderr.isatty(), unit="B", unit_scale=True)
        with bar:
            while block := answer.read(CHUNK):
                file.write(block)
                found.update(block)
                count += len(block)
                if most is not None and count > most:
                    raise UserError(f"cannot download {url} (more than {most} bytes)")
                bar.update(len(block))
    if total is not None and count != total:
        raise UserError(f"cannot download {url} (cut off after {count} of {total} bytes)")
    if digest is not None and not found.hexdigest().startswith(digest):
        raise UserError(f"cannot download {url} (its SHA-256 begins {found.hexdigest()[:8]}, not {digest})")

"""Images at addresses of https, for tools that predict: they are downloaded into a folder that the user names."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlparse

from backbones.errors import UserError
from backbones.weights.download import download

OPTION = "--download"
LARGEST = 1 << 30  # bytes of an image
ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")


class Local(NamedTuple):
    """What is to be read.

    Attributes:
        paths: files and folders of this machine, in the order in which they or their addresses were given.
        addresses: the address of each file that was downloaded.
        problems: one line for each address that gave no file.
    """

    paths: list[str]
    addresses: dict[Path, str]
    problems: list[str]


def local(given: Sequence[str], folder: str | Path | None) -> Local:
    """Downloads the addresses among files and folders. A file that is in the folder already is not downloaded again.

    Args:
        given: files, folders and addresses.
        folder: where the files are kept; None allows no addresses.

    Raises:
        UserError: there is an address and no folder, or addresses alone and none gives a file.
    """
    found = Local([], {}, [])
    for one in given:
        if not ADDRESS.match(str(one)):
            found.paths.append(one)
            continue
        if folder is None:
            raise UserError(
                f"{one} is an address; allowed: files, folders, and with {OPTION} FOLDER addresses of https"
            )
        path = Path(folder) / name_for(one)
        try:
            if not path.is_file():
                download(one, path, what="images", most=LARGEST)
        except UserError as error:
            found.problems.append(str(error))
            continue
        found.paths.append(str(path))
        found.addresses[path] = one
    if found.problems and not found.paths:
        raise UserError(found.problems[0])
    return found


def name_for(address: str) -> str:
    """A file name for an address: its last word, after digits that differ for every address."""
    last = re.sub(r"[^\w.-]", "_", unquote(Path(urlparse(address).path).name))[-100:]
    return f"{hashlib.sha256(address.encode()).hexdigest()[:8]}-{last or 'image'}"

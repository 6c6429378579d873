"""A .pth file before ``torch.load`` reads it: whether its bytes are those that were written, and what they ask for."""

import io
import zipfile
from pathlib import Path

from backbones.errors import UserError
from backbones.weights.pickled import OLD_FORMAT, check_pickle

CHUNK = 1 << 20  # bytes read at once
MAX_PARTS = 30_000  # tensors; VAN-B6 with its optimiser has 10,260
ZIP = b"PK\x03\x04"  # the first bytes by which torch.load tells an archive from the old format
PICKLE = b"\x80"


def check_file(path: Path) -> None:
    """Checks what a .pth file asks for. Each part of an archive is compared with its CRC-32, unlike in ``torch.load``.

    Raises:
        UserError: a part is damaged, or holds more bytes than the file, as in a zip bomb, or has the name of another
            part, or asks for code; or there are too many parts.
        Exception: of any kind, if the file is cut off or of another format, or cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(len(ZIP))
        file.seek(0)
        if start == ZIP:
            check_archive(path)
        elif start.startswith(PICKLE):
            check_pickle(file, path, OLD_FORMAT)
        else:
            raise ValueError("neither an archive nor a pickle")


def check_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if len(parts) > MAX_PARTS:
            raise UserError(f"refused: {path} holds {len(parts)} parts; allowed: up to {MAX_PARTS}")
        if sum(part.file_size for part in parts) > path.stat().st_size:
            raise UserError(f"refused: {path} is said to hold more bytes than it has; allowed: files of torch.save")
        if len({part.filename.lower() for part in parts}) < len(parts):
            raise UserError(f"refused: {path} holds two parts of one name; allowed: files of torch.save")
        for part in parts:
            try:
                with archive.open(part) as stream:
                    while stream.read(CHUNK):
                        pass
            except zipfile.BadZipFile:
                raise UserError(f"{path} is damaged: its part {part.filename!r} is not what was written") from None
            if part.filename.lower().endswith(".pkl"):
                check_pickle(io.BytesIO(archive.read(part)), path)

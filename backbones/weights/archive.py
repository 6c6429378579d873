"""The zip archive that ``torch.save`` writes: whether its bytes are those that were written."""

import zipfile
from pathlib import Path

from backbones.errors import UserError

CHUNK = 1 << 20  # bytes read at once


def check_archive(path: Path) -> None:
    """Compares each part of a .pth file with its CRC-32, which ``torch.load`` does not. Other formats pass.

    Raises:
        UserError: a part is damaged, or the parts are said to be larger than the file, as in a zip bomb.
        zipfile.BadZipFile, OSError: the file is cut off, or cannot be read.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if sum(part.file_size for part in parts) > path.stat().st_size:
            raise UserError(f"refused: {path} is said to hold more bytes than it has; allowed: files of torch.save")
        for part in parts:
            try:
                with archive.open(part) as stream:
                    while stream.read(CHUNK):
                        pass
            except zipfile.BadZipFile:
                raise UserError(f"{path} is damaged: its part {part.filename!r} is not what was written") from None

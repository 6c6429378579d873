"""Whether a tar file is whole."""

import tarfile
from collections.abc import Sequence
from pathlib import Path

from backbones.errors import UserError

BLOCK = 512  # bytes; a member of a tar file begins at a multiple, and one or two blocks of zeros end the file


def check_end(path: Path, members: Sequence[tarfile.TarInfo]) -> None:
    """Raises UserError for a shard without the block of zeros that ends a tar file. ``tarfile`` accepts one."""
    end = max((member.offset_data + -(-member.size // BLOCK) * BLOCK for member in members), default=0)
    with open(path, "rb") as file:
        file.seek(end)
        rest = file.read(BLOCK)
    if len(rest) < BLOCK or rest.strip(b"\0"):
        raise UserError(f"shard is cut short: {path} ({path.stat().st_size} bytes, {len(members)} whole files)")

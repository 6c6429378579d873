"""Says of checkpoints whether they are what was written: each file's checksums are compared with its content.

python tools/verify_checkpoint.py FILE_OR_FOLDER [...]

Of a folder every .pth and .safetensors file is read. A file from elsewhere has no SHA-256; a .pth file then still has
the CRC-32 of each of its parts. The exit status is 1 if a file is damaged, was changed, or cannot be read.
"""

import ziggurat.engine.start  # noqa: F401

import argparse
from pathlib import Path

from backbones import UserError
from backbones.errors import printable
from backbones.weights.verify import verified
from ziggurat.engine.cli import Parser, run_tool

SUFFIXES = (".pth", ".safetensors")


def main() -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path, metavar="FILE_OR_FOLDER")
    faults = [verify(path) for path in files_of(parser.parse_args().paths)]
    return int(any(faults))


def files_of(paths: list[Path]) -> list[Path]:
    """The given files, and the checkpoints in the given folders.

    Raises:
        UserError: a path is absent, or a folder holds no checkpoint.
    """
    found = []
    for path in paths:
        if not path.exists():
            raise UserError(f"no such file or folder: {path}")
        inside = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES) if path.is_dir() else [path]
        if not inside:
            raise UserError(f"no checkpoint in {path}; allowed: files ending in {' or '.join(SUFFIXES)}")
        found += inside
    return found


def verify(path: Path) -> bool:
    """Prints a line about a file. Returns whether something is wrong with the file."""
    fault, has_sha256 = verified(path)
    if fault:
        print(f"bad   {fault}")
    else:
        print(f"good  {printable(path)}" + ("" if has_sha256 else "  (no SHA-256: not written by this project)"))
    return bool(fault)


if __name__ == "__main__":
    run_tool(main)

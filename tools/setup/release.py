"""Builds the wheel and the source archive in dist/, and checks both; `make release` calls this tool.

The version must have a section of CHANGELOG.md and be that of CITATION.cff. The source archive must build the same
wheel. The wheel is installed in an empty folder, from which the command must answer with its version.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from backbones.errors import UserError
from backbones.version import __version__
from ziggurat.engine.cli import Parser, run_tool

ROOT = Path(__file__).resolve().parents[2]
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"


def main() -> None:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder to write (default: dist)")
    out = parser.parse_args().out
    check_version_is_described()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        wheel, archive = built(ROOT, "build_wheel", folder / "wheel"), built(ROOT, "build_sdist", folder / "sdist")
        with tarfile.open(archive) as content:
            content.extractall(folder / "source", filter="data")
        (source,) = (folder / "source").iterdir()
        check_same(wheel, built(source, "build_wheel", folder / "again"))
        check_installed(wheel, folder / "site")
        for file in (wheel, archive):
            shutil.copy(file, out)
            print(f"{out / file.name}: {file.stat().st_size / 1e6:.1f} MB")


def check_version_is_described() -> None:
    """Raises UserError if CHANGELOG.md has no section of the version, or CITATION.cff another version."""
    if not re.search(rf"^## {re.escape(__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE):
        raise UserError(f"CHANGELOG.md has no section '## {__version__}', the version of backbones/version.py")
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    if cited is None or cited[1] != __version__:
        raise UserError(
            f"CITATION.cff has version {cited and cited[1]}; allowed: {__version__}, of backbones/version.py"
        )


def built(source: Path, what: str, out: Path) -> Path:
    """The file that setuptools builds from a folder, whose own build files are made in a copy."""
    out.mkdir()
    with tempfile.TemporaryDirectory() as folder:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=source, capture_output=True, text=True)
        names = listed.stdout.split("\0")[:-1] if (source / ".git").exists() else None
        for path in (source / name for name in names) if names else source.rglob("*"):
            if path.is_file():
                target = Path(folder, path.relative_to(source))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
        done = subprocess.run([sys.executable, "-c", BUILD, what, str(out)], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{what} fails: {(done.stderr.strip() or done.stdout.strip()).splitlines()[-1]}")
    (file,) = out.iterdir()
    return file


def check_same(wheel: Path, again: Path) -> None:
    """Raises UserError if the wheel of the source archive has other files, or files with other content."""
    ours, theirs = ({info.filename: info.CRC for info in zipfile.ZipFile(file).infolist()} for file in (wheel, again))
    other = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    if other:
        raise UserError(f"the source archive builds another wheel: {', '.join(other[:3])} ({len(other)} files in all)")


def check_installed(wheel: Path, site: Path) -> None:
    """Raises UserError if the installed command does not answer with the version."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    env = os.environ | {"PYTHONPATH": str(site)}
    command = [sys.executable, str(site / "bin/ziggurat"), "--version"]
    said = subprocess.run(command, cwd=site, env=env, capture_output=True, text=True).stdout.strip()
    if said != __version__:
        raise UserError(f"the installed command says its version is {said!r}; allowed: {__version__!r}")


if __name__ == "__main__":
    run_tool(main)

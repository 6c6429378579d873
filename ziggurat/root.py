"""The folder in which tools and configs lie: the repository, or, installed, the package ``ziggurat``."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE if (PACKAGE / "tools").is_dir() else PACKAGE.parent
IS_INSTALLED = ROOT == PACKAGE

"""The folder in which tools and configs lie: the repository, or, installed, the package ``ziggurat``.

This file imports nothing that takes time, so that a shell can complete the names of configs.
"""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE if (PACKAGE / "tools").is_dir() else PACKAGE.parent
TASKS = ("classification", "detection", "segmentation")


def config_files(root: Path = ROOT) -> dict[str, Path]:
    """The configs that come with the project, by name: the tasks in turn, each in order of paths."""
    files = [file for task in TASKS for file in sorted(root.glob(f"{task}/configs/*/*.py"))]
    return {file.stem: file for file in files if file.parent.name != "_base_"}

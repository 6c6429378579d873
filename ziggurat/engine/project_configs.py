"""The configs that come with the project: by name, or by their path in the repository, from any folder."""

import difflib
import os
from pathlib import Path

from backbones.errors import UserError
from ziggurat.engine.cli import CONFIG_SUFFIXES
from ziggurat.root import ROOT, TASKS, config_files

NEARLY = 0.8  # of difflib: no arch is that near to a config's name


def project_configs() -> dict[str, Path]:
    """Every config by its name, such as ``mask_rcnn_van_b2_fpn_1x_coco``: the tasks in turn, each in order of paths."""
    return config_files(ROOT)


def config_named(name: str | Path) -> Path | None:
    """The config with this name; None if there is none."""
    return project_configs().get(str(name)) if str(name).isidentifier() else None


def is_config(text: str) -> bool:
    """Whether a word is a config, by its suffix or by its name, and neither an arch nor weights."""
    return Path(text).suffix in CONFIG_SUFFIXES or config_named(text) is not None


def is_ours(path: Path) -> bool:
    """Whether a config is one of this project's. A user's config may lie elsewhere in the clone, e.g. in work_dirs."""
    return any(path.resolve().is_relative_to(ROOT / task / "configs") for task in TASKS)


def located(path: Path) -> Path:
    """The file of a config: the path itself, or a config of the project by its name or its path in the repository."""
    if path.is_file():
        return path
    found = config_named(path) or (config_named(path.stem) if path.name == f"{path}" else None) or ROOT / path
    if not (found.is_file() and is_ours(found)):
        return path
    return found.relative_to(Path.cwd()) if found.is_relative_to(Path.cwd()) else found


def refuse_mistyped(word: str | Path) -> None:
    """Raises UserError for a word that is neither a file nor a config, and is nearly the name of a config."""
    word = str(word)
    if not word.isidentifier() or Path(word).exists() or config_named(word) is not None:
        return
    if difflib.get_close_matches(word.lower(), project_configs(), n=1, cutoff=NEARLY):
        raise unknown_config(Path(word))


def unknown_config(path: Path) -> UserError:
    """The error for an absent config. It gives similar names; for a path the paths from the current folder."""
    found = project_configs()
    nearest = difflib.get_close_matches(path.stem.lower(), found, n=3, cutoff=0.5)
    if path.name != f"{path}":
        nearest = [os.path.relpath(found[name]) for name in nearest]
    hint = f"nearest: {', '.join(nearest)}" if nearest else "tools/list_configs.py lists those of the project"
    return UserError(f"no such config: {path}; {hint}")

"""What a user wants predictions on: images, videos, cameras and streams."""

import os
import re
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from backbones.errors import UserError
from backbones.image_files import images_below, suffixes_of
from backbones.reading import Reading
from ziggurat.engine.videos import SUFFIXES, is_live, is_video, videos_in, without_password


def list_inputs(paths: Sequence[str | Path], reading: Reading) -> list[Path]:
    """The given files, and the images and videos below the given folders, each once.

    Raises:
        UserError: a folder has neither images nor videos.
    """
    found: dict[tuple[str, str], Path] = {}
    real = cache(os.path.realpath)  # of the few folders that all files are in
    for path in map(Path, paths):
        inside = images_below(path, reading) + videos_in(path) if path.is_dir() else [path]
        if not inside:
            allowed = ", ".join((*suffixes_of(reading), *SUFFIXES))
            raise UserError(f"no images and no videos in {path}; readable: {allowed}")
        for one in inside:
            found.setdefault((real(one.parent), one.name), one)
    return list(found.values())


def without_live(given: Sequence[str]) -> tuple[list[str], dict[Path, str]]:
    """Takes cameras and streams out of what a user names.

    Returns:
        The rest, and the cameras and streams, each by a name with the date and time, such as
        ``webcam-2026-03-01-093000``. The name of a stream lacks a password in its address.
    """
    live = [one for one in given if is_live(one)]
    moment = time.strftime("%Y-%m-%d-%H%M%S")
    names = [re.sub(r"[^\w.-]+", "-", without_password(one)) for one in live]
    return [one for one in given if not is_live(one)], {
        Path(f"{name}-{moment}"): one for name, one in zip(names, live, strict=True)
    }


def is_any_video(path: Path, live: dict[Path, str]) -> bool:
    return path in live or is_video(path)


def apart(images: Sequence[Any], live: dict[Path, str]) -> tuple[list[Any], list[Any]]:
    """The images, and the videos, of what is to be predicted, ``ziggurat.engine.predicted.journal.Todo``."""
    pictures: list[Any] = []
    videos: list[Any] = []
    for one in images:
        (videos if is_any_video(one.path, live) else pictures).append(one)
    return pictures, videos


def without_results(paths: list[Path], given: list[str], out: Path) -> list[Path]:
    """Leaves out what is in ``out``, where earlier predictions are, and in no given folder that is in ``out``.

    Raises:
        UserError: no image is left.
    """
    out = real(out)
    meant = {path for path in map(real, given) if path == out or out in path.parents}
    kept = [path for path in paths if is_outside(real(path), out) or not is_outside(real(path), *meant)]
    if not kept:
        raise UserError(f"no images but earlier predictions, in {out}")
    return kept


def is_outside(path: Path, *folders: Path) -> bool:
    """Whether a path is none of the folders, and in none of them."""
    return not {path, *path.parents} & {*folders}


def real(path: str | Path) -> Path:
    """Where a path leads. Unlike ``Path.resolve``, this takes a link that leads to itself."""
    return Path(os.path.realpath(path))


def refuse_to_overwrite(inputs: list[Path], outputs: list[Path]) -> None:
    """Raises UserError if a file that is written is an input."""
    inputs = {real(path) for path in inputs}
    for path in outputs:
        if real(path) in inputs:
            raise UserError(f"--out would overwrite the input {path}; choose another place")

"""Predicting on videos into a folder: a line for each frame, and an MP4 file with the predictions drawn."""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tqdm import tqdm

from backbones.errors import UserError, printable
from backbones.image_files import images_below, suffixes_of
from backbones.reading import Reading
from ziggurat.engine.predicted.formats import FORMATS, PICTURES
from ziggurat.engine.predicted.journal import DRAWN
from ziggurat.engine.results import Result
from ziggurat.engine.video_results import predict_video
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


def apart(images: Sequence[Any], live: dict[Path, str]) -> tuple[list[Any], list[Any]]:
    """The images, and the videos, of what is to be predicted, ``ziggurat.engine.predicted.journal.Todo``."""
    pictures: list[Any] = []
    videos: list[Any] = []
    for one in images:
        (videos if one.path in live or is_video(one.path) else pictures).append(one)
    return pictures, videos


def check_videos(videos: Sequence[Any], formats: Sequence[str]) -> None:
    """Raises UserError if there are videos, and a format that is for images alone."""
    others = [word for word in formats if not FORMATS[word].videos]
    if videos and others:
        allowed = f"{', '.join(word for word, one in FORMATS.items() if one.videos)}; predictions.jsonl has all frames"
        raise UserError(f"--format {others[0]} is for images, and {videos[0].name} is a video; allowed: {allowed}")


def predict_videos(
    predictor: Any,
    videos: Sequence[Any],
    live: dict[Path, str],
    journal: Any,
    formats: Sequence[str],
    chosen: Callable[[Result], Result],
    every: int | None = None,
    most: int | None = None,
) -> Iterator[str]:
    """Predicts on videos, and records each frame. Yields a message for each video that is skipped.

    Args:
        predictor: an ``ziggurat.engine.Predictor``.
        videos: ``ziggurat.engine.predicted.journal.Todo``.
        live: the cameras and streams among them, by their paths.
        journal: the open record of the folder.
        formats: words of ``ziggurat.engine.predicted.formats.FORMATS``. Without "pictures" no MP4 file is written.
        chosen, every, most: as for ``ziggurat.engine.video_results.predict_video``.
    """
    for video in videos:
        row = {"image": video.name, "file": video.stem, "modified": video.modified}
        drawn = journal.out / DRAWN.format(video.stem) if PICTURES in formats else None
        source, count = live.get(video.path, video.path), 0
        try:
            for line in predict_video(predictor, source, drawn, every or 1, most, chosen):
                journal.add(row | line)
                count += 1
            journal.add(row | {"frames": count})
        except UserError as error:
            tqdm.write(f"skipped: {error}", file=sys.stderr)
            yield str(error)
        finally:
            if count:
                print(f"{printable(video.name)}: {count} frames")

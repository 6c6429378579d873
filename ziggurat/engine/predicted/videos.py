"""Predicting on videos into a folder: a line for each frame, and an MP4 file with the predictions drawn."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from backbones.errors import UserError, printable
from ziggurat.engine.predicted.files import FrameFiles
from ziggurat.engine.predicted.formats import DRAWN, PICTURES
from ziggurat.engine.results import Result
from ziggurat.engine.video_results import predict_video


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

    Raises:
        Stopped: a signal ended a video.
    """
    for video in videos:
        row = {"image": video.name, "file": video.stem, "modified": video.modified}
        drawn = journal.out / DRAWN.format(video.stem) if PICTURES in formats else None
        files = FrameFiles(journal.out, video.stem, predictor.task.result_type, formats, journal.begun)
        source, count = live.get(video.path, video.path), 0
        try:
            for line in predict_video(predictor, source, drawn, every or 1, most, chosen, files.write):
                journal.add(row | line)
                count += 1
            journal.add(row | {"frames": count})
        except UserError as error:
            tqdm.write(f"skipped: {error}", file=sys.stderr)
            yield str(error)
        finally:
            if count:
                print(f"{printable(video.name)}: {count} frames")

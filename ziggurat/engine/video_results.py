"""Predicting on the frames of a video: results with the frame's index and time, and a video with the results drawn."""

import contextlib
import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from backbones.errors import Notice, UserError
from ziggurat.engine.draw import PANEL
from ziggurat.engine.results import Result
from ziggurat.engine.videos import Frame, Video, open_video

LEGEND = 8  # a legend below the pictures has at least this part of their height, since later frames may need more
ASKED = "the video ends after this frame, and what is done can be played; again ends it now"
LINES = 100  # frames between two lines of progress


def predicted_frames(
    predictor: Any, video: Video, every: int = 1, most: int | None = None
) -> Iterator[tuple[Frame, Result]]:
    """The frames of an open video in their order, each with its result. A Notice says at the end what is lost.

    Args:
        predictor: an ``ziggurat.engine.Predictor``, whose ``batch_size`` frames are in memory at a time.
        video: the video, see ``ziggurat.engine.videos.open_video``.
        every: the frames 0, ``every``, 2 * ``every``, ... are taken.
        most: the most frames that are taken; None for all.

    Raises:
        UserError: a frame cannot be predicted, or the video has none.
    """
    frames = itertools.islice(video.frames(every), most)
    while batch := list(itertools.islice(frames, predictor.batch_size)):
        results = dict(predictor.each([Image.fromarray(frame.pixels) for frame in batch]))
        for number, frame in enumerate(batch):
            if isinstance(results[number], UserError):
                raise UserError(f"{video.name}, frame {frame.index}: {results[number]}")
            yield frame, results[number]
    if video.problem:
        warnings.warn(Notice(video.problem), stacklevel=2)


def predict_video(
    predictor: Any,
    source: str | Path,
    drawn: str | Path | None = None,
    every: int = 1,
    most: int | None = None,
    chosen: Callable[[Result], Result] = lambda result: result,
) -> Iterator[dict[str, Any]]:
    """Predicts on a video, and writes a video of the predicted frames with their results drawn, at their own times.

    Ctrl-C and SIGTERM end the video after the frame in progress. The file can be played then.

    Args:
        predictor, every, most: as for :func:`predicted_frames`.
        source: as for ``ziggurat.engine.videos.open_video``.
        drawn: the MP4 file to write; None writes none. It has no sound.
        chosen: gives the part of a result that is described and drawn.

    Yields:
        For each frame ``frame``, its index; ``time``, in seconds; ``width`` and ``height``, in pixels; and what
        ``predictor.describe`` says.

    Raises:
        UserError: as ``open_video`` and :func:`predicted_frames`, or PyAV is not there to write.
        Stopped: a signal ended the video.
    """
    from ziggurat.engine.signals import Stopped, caught
    from ziggurat.engine.video_writer import written_video

    with contextlib.ExitStack() as stack:
        video = stack.enter_context(contextlib.closing(open_video(source)))
        request = stack.enter_context(caught(ASKED))
        rate = None if video.rate is None else video.rate / every
        writer = None if drawn is None else stack.enter_context(written_video(drawn, rate))
        canvas = Canvas()
        for frame, result in followed(predicted_frames(predictor, video, every, most), expected(video, every, most)):
            result = chosen(result)
            height, width = frame.pixels.shape[:2]
            place = {"frame": frame.index, "time": round(frame.time, 6), "width": width, "height": height}
            yield place | predictor.describe(result)
            if writer is not None:
                picture = predictor.draw(Image.fromarray(frame.pixels), result)
                writer.add(canvas.fitted(picture, (height, width)), frame.time)
            if request.number:
                break
    if request.number:
        raise Stopped(request.number)


class Canvas:
    """Lays the drawn frames of a video on pages of one size. A legend below a frame may differ from frame to frame."""

    def __init__(self) -> None:
        self.size: tuple[int, int] | None = None

    def fitted(self, picture: Image.Image, frame: Sequence[int]) -> np.ndarray:
        """A drawn frame on its page: (H, W, 3) uint8.

        Args:
            picture: the frame, enlarged or not, with or without a legend below.
            frame: height and width of the frame itself.
        """
        if self.size is None:
            image = round(frame[0] * picture.width / frame[1])
            least = image + image // LEGEND if picture.height > image else 0
            self.size = (picture.width, max(picture.height, least))
        if picture.width != self.size[0]:
            picture = picture.resize((self.size[0], round(picture.height * self.size[0] / picture.width)))
        page = Image.new("RGB", self.size, PANEL)
        page.paste(picture)
        return np.asarray(page)


def expected(video: Video, every: int, most: int | None) -> int | None:
    """How many frames will be predicted, as far as the header says."""
    count = None if video.count is None else -(-video.count // every)
    return count if most is None else min(most, count or most)


def followed(frames: Iterator[Any], count: int | None) -> Iterator[Any]:
    """Passes on frames, and shows how many there were: a bar on a terminal, elsewhere lines."""
    bar = tqdm(total=count, unit="frame", disable=None)
    for done, frame in enumerate(frames, 1):
        yield frame
        bar.update()
        if bar.disable and done % LINES == 0:
            print(f"frame {done}" + (f" of {count}" if count else ""), flush=True)
    bar.close()

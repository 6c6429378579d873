"""Writing pictures with times as a video that every browser and player shows: MP4, H.264, 8 bits, 4:2:0."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from backbones.errors import UserError
from backbones.files import replaced_file
from ziggurat.engine.videos import INSTALL

# The first encoder that this FFmpeg has. MPEG-4 plays in most players, though not in browsers.
ENCODERS = ("libx264", "libopenh264", "h264_videotoolbox", "mpeg4")
QUALITY = {"libx264": {"crf": "20", "preset": "veryfast", "bf": "0"}, "mpeg4": {"qscale": "3"}}
CLOCK = Fraction(1, 90000)  # seconds; the unit of times in the file
RATE = 25  # frames per second, for a video that does not say
BT709 = 1  # FFmpeg's number of this colour space, which players assume for large videos


class VideoWriter:
    """An MP4 file in the making.

    Args:
        path: the file to write.
        rate: frames per second on average, a hint for players. The times of the frames count.
    """

    def __init__(self, path: Path, rate: float | None):
        self.path, self.rate = path, Fraction(rate or RATE).limit_denominator(1001)
        self.container = self.stream = None
        self.last = -1

    def add(self, pixels: np.ndarray, time: float) -> None:
        """Writes a picture. The first one decides the size of the video, plus one pixel where a side is odd.

        Args:
            pixels: (H, W, 3) uint8, RGB.
            time: in seconds. A picture that is not later than the one before comes right after that one.
        """
        import av

        height, width = pixels.shape[:2]
        if self.stream is None:
            self.open(width + width % 2, height + height % 2)
        even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
        self.last = max(round(time / CLOCK), self.last + 1)
        frame.pts, frame.time_base = self.last, CLOCK
        self.container.mux(self.stream.encode(frame))

    def open(self, width: int, height: int) -> None:
        import av

        encoder = next(name for name in ENCODERS if name in av.codecs_available)
        self.container = av.open(str(self.path), "w", format="mp4")
        self.stream = self.container.add_stream(encoder, rate=self.rate, options=QUALITY.get(encoder, {}))
        self.stream.width, self.stream.height, self.stream.pix_fmt = width, height, "yuv420p"
        self.stream.time_base = self.stream.codec_context.time_base = CLOCK
        self.stream.codec_context.colorspace = BT709

    def close(self) -> None:
        """Ends the file, which can be played then."""
        if self.stream is not None:
            self.container.mux(self.stream.encode(None))
            self.container.close()


@contextlib.contextmanager
def written_video(path: str | Path, rate: float | None) -> Iterator[VideoWriter]:
    """A writer of a video, whose file has another name until the block ends.

    An error inside the block leaves no file. No file is written either if there is no picture.

    Raises:
        UserError: PyAV is not installed.
    """
    try:
        import av  # noqa: F401
    except ImportError:
        raise UserError(f"{path}: writing a video needs PyAV, which is not installed; {INSTALL}") from None
    with contextlib.suppress(NoPicture), replaced_file(path) as beside:
        writer = VideoWriter(beside, rate)
        try:
            yield writer
        finally:
            writer.close()
        if writer.stream is None:
            raise NoPicture


class NoPicture(Exception):
    """Nothing was added to a video."""

"""Reading videos by PyAV, which brings FFmpeg."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

from backbones.errors import UserError, one_line
from ziggurat.engine.videos import CAMERA, SUFFIXES, Frame, lost_frames, without_password

# Nothing but files and formats of one file: a playlist would lead to other files and to the network.
FILES_ONLY = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpeg,mpegvideo,mpegts,asf,flv,ogg",
}
CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}:none")}
STREAM_SECONDS = 10.0  # that a stream may take to answer, or to give the next frame
WAIT = 0.005  # seconds until a camera without a new frame is asked again


class OpenVideo:
    """A video that PyAV has opened. Damaged packets are left out.

    Args:
        name: for messages.
        *args, **kwargs: as for ``av.open``.
    """

    def __init__(self, name: str, *args: Any, **kwargs: Any):
        self.name, self.problem = name, ""
        self.container = av.open(*args, **kwargs)
        pictures = [stream for stream in self.container.streams.video if not is_cover(stream)]
        if not pictures:
            others = ", ".join(sorted({stream.type for stream in self.container.streams})) or "nothing"
            self.container.close()
            raise UserError(f"{name} has no pictures, only {others}; allowed: a video")
        self.stream = pictures[0]
        self.stream.thread_type = "AUTO"
        self.rate = float(self.stream.average_rate or self.stream.guessed_rate or 0) or None
        self.count = self.stream.frames or None
        self.damaged = 0
        self.fault = ""

    def close(self) -> None:
        self.container.close()

    def decoded(self) -> Iterator[Any]:
        """All frames as PyAV has them."""
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets, None)
            except BlockingIOError:
                time.sleep(WAIT)
                packets = self.container.demux(self.stream)
                continue
            except av.error.FFmpegError as error:
                self.fault = one_line(error)
                return
            if packet is None:
                return
            try:
                found = packet.decode()
            except av.error.FFmpegError:
                self.damaged += 1
                continue
            yield from found

    def timed(self, every: int = 1) -> Iterator[Frame]:
        """Each ``every``-th frame, with its own time."""
        for index, frame in enumerate(self.decoded()):
            self.read = index + 1
            moment = frame.time if frame.pts is not None else index / (self.rate or 25)
            self.end = float(moment) + 1 / (self.rate or 25)
            if index % every == 0:
                yield Frame(index, float(moment), upright(frame.to_ndarray(format="rgb24"), frame.rotation))


class FileVideo(OpenVideo):
    """A video file. Arguments and errors: as for ``ziggurat.engine.videos.open_video``."""

    def __init__(self, path: str | Path):
        try:
            super().__init__(str(path), str(path), options=FILES_ONLY)
        except av.error.FFmpegError as error:
            reason = error.strerror or one_line(error)
            raise UserError(f"no video that can be read: {path} ({reason}); readable: {', '.join(SUFFIXES)}") from None

    def frames(self, every: int = 1) -> Iterator[Frame]:
        self.read, self.end = 0, 0.0
        yield from self.timed(every)
        if not self.read:
            raise UserError(f"{self.name} has no frame that can be read" + (f" ({self.fault})" if self.fault else ""))
        self.problem = self.lost()

    def lost(self) -> str:
        cut_off = lost_frames(self.name, self.read, self.count, self.end, self.length(), self.rate)
        if not cut_off and self.damaged:
            return f"{self.name} is damaged: {self.read} frames can be read, and {self.damaged} parts were left out"
        if not cut_off and self.fault:
            return f"{self.name} is cut off after {self.read} frames ({self.fault})"
        return cut_off

    def length(self) -> float | None:
        """The time of the end by the header, in seconds."""
        stream = self.stream
        if stream.duration is not None:
            return float((stream.duration + (stream.start_time or 0)) * stream.time_base)
        whole = self.container
        return None if whole.duration is None else (whole.duration + (whole.start_time or 0)) / av.time_base


class LiveVideo(OpenVideo):
    """A camera or a stream. The times count from the first frame."""

    def __init__(self, source: str):
        camera, name = CAMERA.fullmatch(source), without_password(source)
        if camera:
            given = device_of(int(camera[1] or 0))
        else:
            given = dict(file=source, options={"rtsp_transport": "tcp"}, timeout=STREAM_SECONDS)
        try:
            super().__init__(name, **given)
        except (av.error.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or one_line(error)
            what = f"no camera {name}" if camera else f"no stream at {name}"
            raise UserError(f"{what} ({reason})") from None
        self.count = None

    def frames(self, every: int = 1) -> Iterator[Frame]:
        first = None
        for frame in self.timed(every):
            first = frame.time if first is None else first
            yield frame._replace(time=frame.time - first)
        if first is None:
            raise UserError(f"{self.name} gives no frame" + (f" ({self.fault})" if self.fault else ""))
        self.problem = f"{self.name} ended ({self.fault})" if self.fault else ""


def device_of(number: int) -> dict[str, Any]:
    """The arguments of ``av.open`` for a camera of this machine."""
    if sys.platform not in CAMERAS:
        raise UserError(f"webcam:{number} is for Linux and macOS; allowed here: files")
    form, file = CAMERAS[sys.platform]
    path = file.format(number)
    if path.startswith("/") and not Path(path).exists():
        there = sorted(Path("/dev").glob("video*"))
        known = ", ".join(f"webcam:{one.name.removeprefix('video')}" for one in there) or "none, as no camera is there"
        raise UserError(f"no camera webcam:{number}: {path} is missing; allowed: {known}")
    return dict(file=path, format=form)


def is_cover(stream: Any) -> bool:
    """Whether a video stream is the cover picture of a sound file."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def upright(pixels: np.ndarray, degrees: int) -> np.ndarray:
    """Pixels turned by the angle that a phone writes into a video, in degrees counter-clockwise."""
    quarters = round(degrees / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, quarters)) if quarters else pixels

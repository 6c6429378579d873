"""Videos: what is one, and its frames, one after the other.

A video is a file, a camera of this machine (``webcam``, ``webcam:1``) or a live stream (``rtsp://...``). PyAV reads
them all, and brings FFmpeg. Without PyAV, torchcodec reads files, if it finds FFmpeg. Both give equal pixels and times.
PyAV comes first: torchcodec leaves out the first frames of MPEG streams, and stops at the first damaged frame.
"""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from backbones.errors import UserError, shown, unknown
from backbones.image_files import files_below
from backbones.images import check_is_file

SUFFIXES = (".mp4", ".m4v", ".mov", ".3gp", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts")
SUFFIXES += (".wmv", ".asf", ".flv", ".ogv")
CAMERA = re.compile(r"webcam(?::(\d+))?")
STREAM = re.compile(r"rtsps?://.+", re.IGNORECASE)
READERS = ("pyav", "torchcodec")
INSTALL = 'pip install "ziggurat-vision[video]"'
START = 512  # bytes; the start of every kind of video file has a zero among them


class Frame(NamedTuple):
    """One frame of a video.

    Attributes:
        index: its number in the video, from 0.
        time: when it is shown, in seconds, by the presentation timestamps of the file. Of a camera or a stream 0 is the
            first frame.
        pixels: (H, W, 3) uint8, RGB, turned upright as the file says.
    """

    index: int
    time: float
    pixels: np.ndarray


class Video(Protocol):
    """An open video.

    Attributes:
        name: what was opened, for messages.
        rate: frames per second on average; None if the file does not say.
        count: the number of frames by the file's header; None if the file does not say.
        problem: once all frames are read, one line about frames that are lost; "" if there are none.
    """

    name: str
    rate: float | None
    count: int | None
    problem: str

    def frames(self, every: int = 1) -> Iterator[Frame]:
        """The frames 0, ``every``, 2 * ``every``, ... Memory holds a few frames, however long the video is."""

    def close(self) -> None:
        """Closes the file or the device."""


def is_video(source: str | Path) -> bool:
    """Whether a text names a video: by its suffix, as ``webcam`` or ``webcam:1``, or as an address of ``rtsp:``."""
    return is_live(source) or Path(source).suffix.lower() in SUFFIXES


def is_live(source: str | Path) -> bool:
    """Whether a text names a camera of this machine or a live stream."""
    return bool(CAMERA.fullmatch(str(source)) or STREAM.fullmatch(str(source)))


def without_password(source: str | Path) -> str:
    """A text that names a video, without the user's name and password that an address may have."""
    return re.sub(r"//[^/]*@", "//", str(source))


def videos_in(folder: str | Path) -> list[Path]:
    """The video files below a folder, sorted."""
    return files_below(folder, SUFFIXES)


def open_video(source: str | Path, reader: str | None = None) -> Video:
    """Opens a video.

    Args:
        source: a file, ``webcam``, ``webcam:1``, or an address of ``rtsp:``.
        reader: "pyav" or "torchcodec"; None takes the first one that is installed.

    Raises:
        UserError: there is no such file or device, it holds no video that can be read, or no reader is installed.
    """
    if reader is not None and reader not in READERS:
        raise unknown("reader of videos", reader, READERS)
    if not isinstance(source, str | Path):
        raise UserError(f"video is {shown(source)}; allowed: the path of a file, webcam, webcam:1, rtsp://...")
    if is_live(source):
        return imported("pyav", f"{source}: a camera or a stream needs PyAV").LiveVideo(str(source))
    check_file(source)
    if reader is not None:
        return imported(reader, f"{source}: the reader {reader} is asked for").FileVideo(source)
    try:
        module = imported("pyav")
    except UserError:
        module = imported("torchcodec", f"{source}: a video needs PyAV, or torchcodec with FFmpeg")
    return module.FileVideo(source)


def imported(reader: str, need: str = "") -> Any:
    """The module of a reader. UserError, which begins with the need, if the reader cannot be imported."""
    try:
        return importlib.import_module(f"engine.{reader}_video")
    except (ImportError, RuntimeError, OSError):  # torchcodec without FFmpeg's libraries raises RuntimeError
        raise UserError(f"{need}, which is not installed; {INSTALL}") from None


def check_file(path: str | Path) -> None:
    """Raises UserError for a file that is no video by its first bytes.

    FFmpeg would follow the addresses in a playlist, which is a text, whatever the suffix is.
    """
    check_is_file(path, "video")
    try:
        with open(path, "rb") as file:
            start = file.read(START)
    except FileNotFoundError:
        raise UserError(f"no such video: {path}") from None
    except IsADirectoryError:
        raise UserError(f"no video but a folder: {path}") from None
    except OSError as error:
        raise UserError(f"video cannot be read: {path} ({error.strerror})") from None
    if not start:
        raise UserError(f"video is empty: {path}")
    if b"\0" not in start:
        raise UserError(f"no video but text or damaged: {path}; readable: {', '.join(SUFFIXES)}")


def lost_frames(name: str, read: int, count: int | None, end: float, length: float | None, rate: float | None) -> str:
    """One line for a video that ends before its header says; "" for a whole one.

    Args:
        name: of the video.
        read, count: frames that were read, and those of the header.
        end, length: the time of the end of the last frame in seconds, and that of the header.
        rate: frames per second.
    """
    sparse = name.lower().endswith(".avi")  # whose header counts places for frames, of which some may be empty
    if count is not None and not sparse and count - read > max(2, 0.01 * count):
        return f"{name} is cut off: {read} of {count} frames can be read"
    if length is not None and length - end > max(0.5, 3 / (rate or 25), 0.01 * length):
        return f"{name} is cut off: its header says {length:.1f} s, and the last frame ends at {end:.1f} s"
    return ""

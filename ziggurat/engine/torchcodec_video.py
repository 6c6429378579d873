"""Reading video files by torchcodec, with the FFmpeg of this machine."""

import re
from collections.abc import Iterator
from pathlib import Path

from torchcodec.decoders import VideoDecoder

from backbones.errors import UserError
from ziggurat.engine.videos import SUFFIXES, Frame, lost_frames


class FileVideo:
    """A video file. Arguments and errors: as for ``ziggurat.engine.videos.open_video``."""

    def __init__(self, path: str | Path):
        self.name, self.problem = str(path), ""
        try:
            self.decoder = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=0)
            self.count = len(self.decoder)
        except Exception as error:  # it raises RuntimeError and ValueError with FFmpeg's words
            readable = f"readable: {', '.join(SUFFIXES)}"
            raise UserError(f"no video that can be read: {path} ({reason_of(error)}); {readable}") from None
        self.rate = self.decoder.metadata.average_fps

    def frames(self, every: int = 1) -> Iterator[Frame]:
        for index in range(0, self.count, every):
            try:
                found = self.decoder.get_frame_at(index)
            except (RuntimeError, IndexError) as error:
                if not index:
                    raise UserError(f"{self.name} has no frame that can be read ({reason_of(error)})") from None
                self.problem = f"{self.name} is cut off: {index} of {self.count} frames can be read"
                return
            end = found.pts_seconds + found.duration_seconds
            yield Frame(index, found.pts_seconds, found.data.numpy())
        if not self.count:
            raise UserError(f"{self.name} has no frame that can be read")
        header = self.decoder.metadata
        said, length = header.num_frames_from_header, header.duration_seconds_from_header
        if length is not None:
            length += header.begin_stream_seconds_from_header or 0
        if every == 1:
            self.problem = lost_frames(self.name, self.count, said, end, length, self.rate)

    def close(self) -> None:
        del self.decoder


def reason_of(error: Exception) -> str:
    """What an error of torchcodec says, without the place in its source files."""
    text = " ".join(str(error).split())
    if "best video stream" in text:
        return "it has no pictures"
    return re.sub(r"^.*?\.cpp:\d+, ", "", text)[:200]

"""Small videos, written by PyAV."""

from fractions import Fraction

import av
import numpy as np

TIMES = (0.0, 0.04, 0.08, 0.2, 0.24, 0.5, 0.54, 0.6)  # seconds; the rate varies
ENCODERS = {".mp4": "libx264", ".mov": "libx264", ".mkv": "libx264", ".webm": "libvpx-vp9", ".avi": "mpeg4"}
QUARTER = (0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)  # MP4's matrix for a quarter clockwise


def picture(number, height=48, width=64):
    """A frame that differs from its neighbours, and from itself turned or mirrored."""
    pixels = np.full((height, width, 3), (0, 60, 30), np.uint8)
    pixels[..., 0] = 30 * number % 256
    pixels[: height // 2, : width // 2, 1] = 200
    pixels[height // 2 :, :, 2] = 160
    return pixels


def write_clip(path, times=TIMES, height=48, width=64):
    """A video of a picture at each time. Returns its path."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(ENCODERS[path.suffix], rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(number, height, width), format="rgb24")
            frame.pts, frame.time_base = round(1000 * time), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_sound(path):
    """A file with sound and no pictures. Returns its path."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def turn(path):
    """Writes a quarter clockwise into the header of an MP4 file, as phones do. Returns its path."""
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 44
    content[start : start + 36] = b"".join(number.to_bytes(4, "big", signed=True) for number in QUARTER)
    path.write_bytes(content)
    return path


def with_index_first(path):
    """Writes a video again with its index in front, so that a cut-off copy can be opened. Returns its path."""
    other = path.with_name(f"first_{path.name}")
    with av.open(str(path)) as given, av.open(str(other), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(given.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    return other

"""Videos give every frame with its own index and time, upright; what cannot be read is one line.

The references are the pictures and times that the clips are made of.
"""

import contextlib
import os
import signal
import sys

import numpy as np
import pytest
from clips import ENCODERS, TIMES, picture, turn, with_index_first, write_clip, write_sound
from PIL import Image

from backbones import UserError
from backbones.errors import Notice
from ziggurat.engine import videos
from ziggurat.engine.signals import Stopped
from ziggurat.engine.video_results import Canvas, predict_video, predicted_frames
from ziggurat.engine.video_writer import written_video
from ziggurat.engine.videos import is_live, is_video, open_video

CLOSE = 6  # of 255: the median difference to what was encoded


def installed(reader):
    try:
        videos.imported(reader)
    except UserError:
        return False
    return True


READERS = [reader for reader in videos.READERS if installed(reader)]


class Marker:
    """Predicts the red of an image. A frame with more red than ``limit`` has an error for a result."""

    batch_size = 3

    def __init__(self, limit=255):
        self.limit, self.sizes = limit, []

    def each(self, images):
        self.sizes.append(len(images))
        for number, image in reversed(list(enumerate(images))):  # images of several sizes come in any order
            red = int(np.median(np.asarray(image)[..., 0]))
            yield number, UserError("too red") if red > self.limit else red

    def describe(self, red):
        return {"red": red}

    def draw(self, image, red):
        page = Image.new("RGB", (image.width, image.height + red // 8), (9, 9, 9))  # a legend of any height
        page.paste(image)
        return page


def read(path, reader="pyav", every=1):
    with contextlib.closing(open_video(path, reader)) as video:
        return list(video.frames(every)), video


@pytest.mark.parametrize("suffix", sorted(ENCODERS))
@pytest.mark.parametrize("reader", READERS)
def test_frames_have_their_index_time_and_pixels(reader, suffix, tmp_path):
    frames, video = read(write_clip(tmp_path / f"clip{suffix}"), reader)
    assert [frame.index for frame in frames] == list(range(len(TIMES)))
    np.testing.assert_allclose([frame.time for frame in frames], TIMES, atol=0.0011)
    for frame in frames:
        assert frame.pixels.dtype == np.uint8 and frame.pixels.shape == (48, 64, 3) and not video.problem
        assert np.median(np.abs(frame.pixels.astype(int) - picture(frame.index))) <= CLOSE


@pytest.mark.parametrize("reader", READERS)
def test_each_third_frame_keeps_its_index_and_time(reader, tmp_path):
    frames, video = read(write_clip(tmp_path / "clip.mp4"), reader, every=3)
    assert [(frame.index, round(frame.time, 3)) for frame in frames] == [(i, TIMES[i]) for i in (0, 3, 6)]
    assert not video.problem


@pytest.mark.parametrize("reader", READERS)
def test_a_phones_video_is_turned_upright(reader, tmp_path):
    frames, _ = read(turn(write_clip(tmp_path / "phone.mp4")), reader)
    upright = np.rot90(picture(3), -1)
    assert frames[3].pixels.shape == (64, 48, 3)
    assert np.median(np.abs(frames[3].pixels.astype(int) - upright)) <= CLOSE


def test_a_video_that_is_cut_off_gives_what_it_has_and_says_so(tmp_path):
    path = with_index_first(write_clip(tmp_path / "clip.mp4", [i / 25 for i in range(60)], 128, 128))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    frames, video = read(path)
    assert 10 < len(frames) < 60 and [frame.index for frame in frames] == list(range(len(frames)))
    assert video.problem == f"{path} is cut off: {len(frames)} of 60 frames can be read"
    with pytest.warns(Notice, match="is cut off"):
        assert len(list(predicted_frames(Marker(), open_video(path)))) == len(frames)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("absent.mp4", None, "no such video: .*absent"),
        ("empty.mp4", b"", "video is empty: .*empty"),
        ("list.mp4", b"#EXTM3U\nhttp://127.0.0.1:9/part.ts\n", "no video but text"),
        ("zeros.mp4", bytes(4096), "no video that can be read: .*zeros"),
        ("half.mp4", 0.5, "no video that can be read: .*half"),
        ("sound.mp4", "sound", "has no pictures|it has no pictures"),
        ("folder.mp4", "folder", "no video but a folder"),
    ],
)
def test_what_is_no_video_is_one_line(reader, name, content, said, tmp_path):
    path = tmp_path / name
    if content == "sound":
        write_sound(path)
    elif content == "folder":
        path.mkdir()
    elif isinstance(content, float):  # the index of an MP4 file is at its end
        write_clip(path)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * content)])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=said):
        read(path, reader)


def test_a_playlist_behind_a_binary_start_opens_nothing(tmp_path):
    """FFmpeg knows a playlist by its text, and would open the files and addresses in it."""
    secret = write_clip(tmp_path / "secret.mp4")
    path = tmp_path / "list.mp4"
    path.write_bytes(b"ffconcat version 1.0\nfile " + str(secret).encode() + b"\n#\0")
    with pytest.raises(UserError, match="no video that can be read"):
        read(path)


def test_names_of_videos():
    named = ("a.MP4", "b.mov", "c d.webm", "webcam", "webcam:12", "rtsp://host/live", "é.avi")
    assert all(map(is_video, named)) and [is_live(name) for name in named].count(True) == 3
    assert not any(map(is_video, ("a.jpg", "webcam.jpg", "mp4", "webcams", "webcam:", "http://host/a", "folder")))


def test_a_camera_that_is_missing_is_one_line():
    with pytest.raises(UserError, match=r"no camera webcam:97\b|is for Linux and macOS|needs PyAV"):
        open_video("webcam:97")


@pytest.mark.parametrize("source", [None, 3, b"a.mp4"])
def test_what_is_no_name_is_one_line(source):
    with pytest.raises(UserError, match="video is"):
        open_video(source)
    with pytest.raises(UserError, match="unknown reader of videos"):
        open_video("a.mp4", "cv2")


def test_without_a_reader_one_line_says_what_to_install(monkeypatch, tmp_path):
    path = write_clip(tmp_path / "clip.mp4")
    monkeypatch.setitem(sys.modules, "ziggurat.engine.pyav_video", None)
    monkeypatch.setitem(sys.modules, "ziggurat.engine.torchcodec_video", None)
    with pytest.raises(UserError, match=r'pip install "ziggurat-vision\[video\]"'):
        open_video(path)


@pytest.mark.parametrize("size", [(48, 64), (47, 65)])
def test_a_written_video_keeps_times_and_pixels(size, tmp_path):
    path = tmp_path / "out.mp4"
    with written_video(path, 10) as writer:
        for number, time in enumerate(TIMES):
            assert not path.exists()
            writer.add(picture(number, *size), time)
    frames, video = read(path)
    assert video.stream.codec_context.pix_fmt == "yuv420p" and not video.problem
    np.testing.assert_allclose([frame.time for frame in frames], TIMES, atol=1e-4)
    for number, frame in enumerate(frames):
        assert frame.pixels.shape == (48, 66 if size[1] % 2 else 64, 3)
        assert np.median(np.abs(frame.pixels[: size[0], : size[1]].astype(int) - picture(number, *size))) <= CLOSE
    assert [one.name for one in tmp_path.iterdir()] == ["out.mp4"]


def test_times_that_do_not_grow_are_written_one_after_the_other(tmp_path):
    with written_video(tmp_path / "out.mp4", None) as writer:
        for number, time in enumerate((0.5, 0.5, 0.1)):
            writer.add(picture(number), time)
    times = [frame.time for frame in read(tmp_path / "out.mp4")[0]]
    assert len(times) == 3 and times == sorted(set(times))


def test_an_error_leaves_no_video_and_so_do_no_frames(tmp_path):
    path = tmp_path / "out.mp4"
    with pytest.raises(KeyError), written_video(path, 25) as writer:
        writer.add(picture(0), 0)
        raise KeyError
    with written_video(path, 25):
        pass
    assert list(tmp_path.iterdir()) == []


def test_results_come_with_frames_in_order_and_a_drawn_video(tmp_path):
    path, marker = write_clip(tmp_path / "clip.mp4"), Marker()
    lines = list(predict_video(marker, path, tmp_path / "drawn.mp4"))
    assert marker.sizes == [3, 3, 2]
    assert [line["frame"] for line in lines] == list(range(8))
    assert [line["time"] for line in lines] == list(TIMES)
    assert all(abs(line["red"] - 30 * line["frame"]) <= CLOSE for line in lines)
    drawn, _ = read(tmp_path / "drawn.mp4")
    np.testing.assert_allclose([frame.time for frame in drawn], TIMES, atol=1e-4)
    assert {frame.pixels.shape for frame in drawn} == {(48, 64, 3)}
    assert [line["frame"] for line in predict_video(Marker(), path, every=2, most=3)] == [0, 2, 4]


def test_a_frame_without_a_result_is_named(tmp_path):
    with pytest.raises(UserError, match=r"clip\.mp4, frame 4: too red"):
        list(predict_video(Marker(limit=100), write_clip(tmp_path / "clip.mp4"), tmp_path / "drawn.mp4"))
    assert [one.name for one in tmp_path.iterdir()] == ["clip.mp4"]


def test_legends_of_any_height_fit_pages_of_one_size():
    canvas = Canvas()
    pages = [canvas.fitted(Image.new("RGB", (96, 64 + more)), (32, 48)) for more in (2, 40, 0)]
    assert {page.shape for page in pages} == {(72, 96, 3)}
    assert canvas.fitted(Image.new("RGB", (480, 320)), (320, 480)).shape == (72, 96, 3)
    assert Canvas().fitted(Image.new("RGB", (96, 64)), (32, 48)).shape == (64, 96, 3), "no legend, no room for one"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_with_a_video_of_what_was_done(number, tmp_path):
    lines = []
    with pytest.raises(Stopped) as end:
        for line in predict_video(Marker(), write_clip(tmp_path / "clip.mp4"), tmp_path / "drawn.mp4"):
            lines.append(line)
            if line["frame"] == 4:
                os.kill(os.getpid(), number)
    assert end.value.code == 128 + number and [line["frame"] for line in lines] == [0, 1, 2, 3, 4]
    drawn, video = read(tmp_path / "drawn.mp4")
    np.testing.assert_allclose([frame.time for frame in drawn], TIMES[:5], atol=1e-4)
    assert not video.problem


def test_times_of_a_camera_count_from_its_first_frame(monkeypatch, tmp_path):
    path = write_clip(tmp_path / "clip.mkv", [100 + time for time in TIMES])
    monkeypatch.setattr("ziggurat.engine.pyav_video.device_of", lambda number: dict(file=str(path)))
    with contextlib.closing(open_video("webcam")) as video:
        frames = list(video.frames())
    assert video.count is None
    np.testing.assert_allclose([frame.time for frame in frames], TIMES, atol=1e-9)

"""Frames of videos in every form of predictions: a form has for a frame what it has for the same picture as an image.

A stopped run goes on without double or lost frames. No file from elsewhere is replaced silently. The predictor is a
rule for pixels, so that runs of the whole tool take no time.
"""

import contextlib
import csv
import json
import os
import signal
import sys
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import predict as tool
import pytest
import torch
from clips import TIMES, write_clip
from mmdet.datasets.base_video_dataset import BaseVideoDataset
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

import classification.task
import detection.task
import segmentation.task
from backbones import UserError
from backbones.reading import READING
from ziggurat.engine.own_data.cvat import mask_of
from ziggurat.engine.predicted.formats import FORMATS
from ziggurat.engine.results import ClassMap, Instances, Panoptic, Scores, Segment
from ziggurat.engine.signals import Stopped
from ziggurat.engine.videos import open_video

NAMES = ["ant & bee", "Käfer", "c"]
SIZE = (48, 64)
KINDS = ["scores", "boxes", "masks", "panoptic", "map"]
TASKS = dict.fromkeys(KINDS, detection.task.TASK) | {
    "scores": classification.task.TASK,
    "map": segmentation.task.TASK,
}
VIDEO = "frame_{:06d}".format


def result_of(kind, pixels):
    """What depends on the pixels of an image, so that no two frames have the same."""
    red, bright = int(np.median(pixels[..., 0])), pixels[..., 1] > 120
    if kind == "scores":
        best = red // 60 % 3
        labels = np.array([best, (best + 1) % 3, (best + 2) % 3])
        return Scores(np.array([0.5, 0.3, 0.2], np.float32), labels, [NAMES[i] for i in labels])
    if kind == "map":
        return ClassMap(np.where(bright, 1, np.where(pixels[..., 2] > 100, red // 60 % 3, 0)).astype(np.uint8), NAMES)
    count = 0 if red // 30 == 3 else 2
    boxes = np.array([[red / 8, 3, red / 8 + 20, 30], [2, 1.5, 30, 40]], np.float32)[:count]
    first = np.zeros(SIZE, bool)
    first[3:30, red // 8 : red // 8 + 20] = True
    content = dict(size=SIZE, boxes=boxes, scores=np.array([0.9, 0.4], np.float32)[:count])
    content |= dict(labels=np.array([2, red // 60 % 2])[:count], names=[NAMES[2], NAMES[red // 60 % 2]][:count])
    if kind == "boxes":
        return Instances(**content)
    content["masks"] = np.stack([first, bright])[:count]
    if kind == "masks":
        return Instances(**content)
    return Panoptic(**content, panoptic_map=first * 300, segments=(Segment(300, 2, "c", True, int(first.sum())),))


class Ruler:
    """In place of ``ziggurat.engine.Predictor``. After ``stop_after`` frames the process gets a SIGINT."""

    reading, names, batch_size = READING, NAMES, 1
    model = torch.nn.Linear(1, 1).requires_grad_(False)

    def __init__(self, kind):
        self.kind, self.task, self.stop_after, self.done = kind, TASKS[kind], None, 0
        self.describe = self.task.describe
        torch.nn.init.ones_(self.model.weight), torch.nn.init.ones_(self.model.bias)

    def each(self, images, workers=0):
        for number, image in enumerate(images):
            self.done += 1
            if self.done == self.stop_after:
                os.kill(os.getpid(), signal.SIGINT)
            image = image if isinstance(image, Image.Image) else Image.open(image).convert("RGB")
            yield number, result_of(self.kind, np.asarray(image))

    def draw(self, image, result):
        return Image.new("RGB", SIZE[::-1])


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs the tool: ``run(kind, inputs, out, *options)`` gives the folder ``out``."""

    def run(kind, inputs, out, *options, stop_after=None):
        ruler = Ruler(kind)
        ruler.stop_after = stop_after
        monkeypatch.setattr("ziggurat.engine.Predictor", lambda *args, **kwargs: ruler)
        argv = ["model.pth", *inputs, "--out", tmp_path / out, "--device", "cpu", "--score-thr", 0, *options]
        monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, argv)])
        assert tool.main() == 0
        return tmp_path / out

    return run


def words_for(kind, of_videos=True):
    known = TASKS[kind].result_type
    return [
        word for word, one in FORMATS.items() if known in one.results and not (of_videos and known in one.images_only)
    ]


@pytest.fixture
def clip(tmp_path):
    (tmp_path / "in").mkdir()
    return write_clip(tmp_path / "in/clip 1.mp4", [i / 25 for i in range(8)])


def pictures_of(clip, folder):
    """The frames of a video as files."""
    folder.mkdir()
    with contextlib.closing(open_video(clip)) as video:
        for frame in video.frames():
            Image.fromarray(frame.pixels).save(folder / f"{VIDEO(frame.index)}.png")
    return folder


def content_of(out):
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def without(one, *names):
    return {key: value for key, value in one.items() if key not in names}


def tree(path):
    return ElementTree.parse(path).getroot()


class Reader:
    """What the forms in a folder say of the images or frames, in their order."""

    def __init__(self, out, video=None):
        self.out, self.video = out, video
        folder = f"{video}/" if video else ""
        self.stems = [folder + VIDEO(i) for i in range(8)]

    def csv(self):
        with (self.out / "predictions.csv").open(encoding="utf-8") as file:
            return [without(row, "image", "frame", "time") for row in csv.DictReader(file)]

    def coco(self):
        coco = COCO(str(self.out / "predictions.coco.json"))
        found = [coco.loadAnns(coco.getAnnIds(imgIds=[number])) for number in sorted(coco.imgs)]
        sizes = [(image["width"], image["height"]) for image in coco.imgs.values()]
        return sizes, [[without(one, "id", "image_id") for one in ones] for ones in found]

    def yolo(self):
        return [(self.out / f"labels/{stem}.txt").read_text() for stem in self.stems]

    def masks(self):
        return [(self.out / f"masks/{stem}.png").read_bytes() for stem in self.stems]

    def panoptic(self):
        return [(self.out / f"panoptic/{stem}.png").read_bytes() for stem in self.stems]

    def cvat(self):
        images = tree(self.out / (f"cvat/{self.video}.xml" if self.video else "predictions.cvat.xml")).findall("image")
        assert [image.get("name").removesuffix(".png") for image in images] == [VIDEO(i) for i in range(8)]
        assert [image.get("id") for image in images] == [str(i) for i in range(8)]
        return [[(shape.tag, shape.attrib) for shape in image] for image in images]


@pytest.mark.parametrize("kind", KINDS)
def test_frames_have_what_the_same_pictures_have(run, clip, tmp_path, kind):
    words = words_for(kind)
    videos = Reader(run(kind, [clip], "videos", "--format", *words), "clip 1")
    images = Reader(run(kind, [pictures_of(clip, tmp_path / "png")], "images", "--format", *words))
    named = {"csv", "coco", "yolo", "masks", "cvat"} & {*words} | ({"panoptic"} if kind == "panoptic" else set())
    for word in named:
        found, expected = getattr(videos, word)(), getattr(images, word)()
        assert found == expected and any(found), word
    drawn = [path.name for path in (tmp_path / "videos").iterdir() if path.suffix in (".png", ".mp4")]
    assert drawn == ["clip 1.mp4"]
    rows = [json.loads(line) for line in (tmp_path / "videos/predictions.jsonl").read_text().splitlines()]
    assert [(row["frame"], row["time"]) for row in rows[:-1]] == [(i, i / 25) for i in range(8)]


def label_studio(out, name="predictions.label-studio"):
    tasks = json.loads((out / f"{name}.json").read_text())
    return tasks, tree(out / f"{name}.xml")


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_label_studio_has_a_region_for_each_object_of_a_frame(run, clip, tmp_path, kind, capsys):
    (task,), interface = label_studio(
        run(kind, [clip], "v", "--format", "label-studio"), "predictions.label-studio-videos"
    )
    assert ("has their boxes" in capsys.readouterr().err) == (kind == "masks")
    images, _ = label_studio(run("boxes", [pictures_of(clip, tmp_path / "png")], "i", "--format", "label-studio"))
    assert task["data"]["fps"] == 25 and task["data"]["video"].endswith("in/clip%201.mp4")
    assert interface.find("Video").attrib == dict(name="video", value="$video", frameRate="$fps")
    assert [label.get("value") for label in interface.findall("Labels/Label")] == NAMES
    found = [[] for _ in range(8)]
    regions = task["predictions"][0]["result"]
    assert len({one["id"] for one in regions}) == len(regions) == 14
    for one in regions:
        assert (one["from_name"], one["to_name"], one["type"]) == ("box", "video", "videorectangle")
        (key,) = one["value"]["sequence"]
        assert (one["value"]["framesCount"], one["value"]["duration"]) == (8, 0.32)
        assert key["enabled"] is False and key["time"] == (key["frame"] - 1) / 25
        box = without(key, "enabled", "time", "frame")
        found[key["frame"] - 1].append((one["value"]["labels"], box, one["score"]))
    for frame, image in zip(found, images, strict=True):
        values = [(one["value"], one["score"]) for one in image["predictions"][0]["result"]]
        assert frame == [(value.pop("rectanglelabels"), value, score) for value, score in values]
    assert not (tmp_path / "v/predictions.label-studio.json").exists(), "a project of images without images"


@pytest.mark.parametrize("every", [1, 3])
def test_label_studio_has_ranges_of_frames_of_one_class(run, clip, every):
    out = run("scores", [clip], "v", "--format", "label-studio", "--every", every)
    (task,), interface = label_studio(out, "predictions.label-studio-videos")
    ranges = [(one["value"]["timelinelabels"], one["value"]["ranges"]) for one in task["predictions"][0]["result"]]
    names = {}
    for (name,), ((one),) in ranges:
        names |= dict.fromkeys(range(one["start"], one["end"] + 1), name)
    rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()][:-1]
    assert [names[row["frame"] + 1] for row in rows] == [row["categories"][0] for row in rows]
    assert 1 < len(ranges) < len(rows) if every == 1 else len(rows) == 3
    assert interface.find("TimelineLabels").get("toName") == "video"


def test_uneven_times_and_lengths_of_videos_in_label_studio(run, tmp_path, capsys):
    """The file says how long a video is, also where few frames are predicted. A file that does not say is no error."""
    paths = [write_clip(tmp_path / f"a{suffix}", TIMES) for suffix in (".mp4", ".webm")]
    out = run("boxes", paths, "out", "--format", "label-studio", "--max-frames", "2")
    assert "uneven" not in capsys.readouterr().err
    tasks, _ = label_studio(out, "predictions.label-studio-videos")
    counts = [task["predictions"][0]["result"][0]["value"]["framesCount"] for task in tasks]
    assert counts[0] == len(TIMES) and counts[1] >= 2
    run("boxes", paths[:1], "all", "--format", "label-studio")
    assert "uneven times of the frames of" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["boxes", "map"])
def test_images_beside_videos(run, clip, tmp_path, kind):
    """Ids are unique, and names are those of files that can lie in one folder."""
    Image.new("RGB", SIZE[::-1]).save(clip.with_suffix(".png"))
    more = clip.parent / "more"
    more.mkdir()
    write_clip(more / "clip 1.mp4", [0, 0.1])
    out = run(kind, [clip.parent], "out", "--format", *words_for(kind), "--every", 3, "--max-frames", 2)
    data = json.loads((out / "predictions.coco.json").read_text())
    names = ["clip 1.mp4/frame_000000.jpg", "clip 1.mp4/frame_000003.jpg", "more/clip 1.mp4/frame_000000.jpg"]
    assert [one["file_name"] for one in data["images"]] == ["clip 1.png", *names]
    assert [one["id"] for one in data["images"]] == [1, 2, 3, 4]
    frames = data["images"][1:]
    assert [(one["video_id"], one["frame_id"], one["frame_index"]) for one in frames] == [
        (1, 0, 0),
        (1, 1, 3),
        (2, 0, 0),
    ]
    assert [one["time"] for one in frames] == [0, 0.12, 0] and "video_id" not in data["images"][0]
    size = dict(width=64, height=48)
    assert data["videos"] == [
        dict(id=1, name="clip 1.mp4", **size, length=2),
        dict(id=2, name="more/clip 1.mp4", **size, length=1),
    ]
    labels = {str(path.relative_to(out / "labels")) for path in (out / "labels").rglob("*.txt")}
    masks = {str(path.relative_to(out / "masks")) for path in (out / "masks").rglob("*.png")}
    stems = ["in_clip 1_2/frame_000000", "in_clip 1_2/frame_000003", "more_clip 1/frame_000000", "in_clip 1"]
    assert masks == {f"{stem}.png" for stem in stems}
    assert labels == ({f"{stem}.txt" for stem in stems} if kind == "boxes" else set())
    assert {path.name for path in (out / "cvat").iterdir()} == {"in_clip 1_2.xml", "more_clip 1.xml"}
    assert [image.get("name") for image in tree(out / "predictions.cvat.xml").findall("image")] == ["clip 1.png"]
    frames = tree(out / "cvat/in_clip 1_2.xml").findall("image")
    assert [(one.get("id"), one.get("name")) for one in frames] == [("0", "frame_000000"), ("3", "frame_000003")]


def test_mmdet_reads_the_videos(run, clip):
    Image.new("RGB", SIZE[::-1]).save(clip.with_suffix(".png"))
    out = run("masks", [clip.parent], "out", "--format", "coco", "--every", 2)
    found = BaseVideoDataset(
        ann_file=str(out / "predictions.coco.json"), metainfo=dict(classes=NAMES), test_mode=True, pipeline=[]
    )
    assert sorted(one["video_length"] for one in found.load_data_list()) == [1, 4]
    video = max(found.load_data_list(), key=lambda one: one["video_length"])
    assert [image["frame_id"] for image in video["images"]] == [0, 1, 2, 3]
    rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    boxes = [row["boxes"] for row in rows if "frame" in row]
    assert [[one["bbox"] for one in image["instances"]] for image in video["images"]] == boxes


def test_cvat_has_the_masks_of_each_frame(run, clip):
    images = tree(run("masks", [clip], "out", "--format", "cvat") / "cvat/clip 1.xml").findall("image")
    with contextlib.closing(open_video(clip)) as video:
        for frame, image in zip(video.frames(), images, strict=True):
            found = [coco_mask.decode(mask_of(node.attrib, "here", SIZE)[0]) for node in image.findall("mask")]
            assert np.array_equal(found, result_of("masks", frame.pixels).masks) or not (found or image)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_video_is_in_all_files_and_begins_anew(run, clip, tmp_path, kind, capsys):
    """After Ctrl-C the forms have the frames until then. The same command gives what a run at one go gives."""
    options = ("--format", *words_for(kind))
    with pytest.raises(Stopped) as end:
        run(kind, [clip], "out", *options, stop_after=5)
    out = tmp_path / "out"
    assert end.value.code == 130 and f"stopped: what is done is in {out}" in capsys.readouterr().out
    assert [one.get("name") for one in tree(out / "cvat/clip 1.xml").findall("image")] == [VIDEO(i) for i in range(5)]
    if kind == "masks":
        assert len(json.loads((out / "predictions.coco.json").read_text())["images"]) == 5
        assert len(list((out / "labels/clip 1").iterdir())) == 5
    run(kind, [clip], "out", *options)
    whole = content_of(run(kind, [clip], "whole", *options))
    assert content_of(out) == whole
    run(kind, [clip], "out", *options)
    assert content_of(out) == whole, "nothing is to do"


@pytest.mark.parametrize("kind", ["masks", "panoptic", "map"])
def test_a_video_that_became_shorter_keeps_no_frames_of_the_longer_one(run, clip, tmp_path, kind):
    options = ("--format", *words_for(kind))
    out = run(kind, [clip], "out", *options)
    write_clip(clip, [0, 0.04, 0.08])
    os.utime(clip, (1, 1))
    run(kind, [clip], "out", *options)
    assert content_of(out) == content_of(run(kind, [clip], "whole", *options))


@pytest.mark.parametrize(
    "name", ["a[b]*.mp4", "é ü.mp4", f"{'x' * 240}.mp4", "frame_000000.mp4", "predictions.cvat.mp4"]
)
def test_any_name_of_a_video(run, clip, tmp_path, name):
    """Files of frames are found and removed by the name of their video, which a pattern could mistake."""
    first, other = clip.rename(clip.with_name(name)), write_clip(clip.with_name("abb.mp4"), [0, 0.04])
    options = ("--format", *words_for("masks"))
    out = run("masks", [first, other], "out", *options)
    write_clip(first, [0, 0.04, 0.08])
    os.utime(first, (1, 1))
    run("masks", [first, other], "out", *options)
    run("masks", [other], "whole", *options)
    whole = content_of(run("masks", [first], "whole", *options))
    maps = {file: content for file, content in whole.items() if file.startswith(("masks/", "labels/", "cvat/"))}
    assert {file: content for file, content in content_of(out).items() if file in maps} == maps
    assert len(list(out.glob("masks/*/*.png"))) == len(list(out.glob("labels/*/*.txt"))) == 5
    run("masks", [first], "out", "--format", "csv", "--overwrite")
    assert not [path for path in out.iterdir() if path.is_dir()]


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("boxes", "labels/clip 1/frame_000003.txt"),
        ("masks", "masks/clip 1/frame_000099.png"),
        ("map", "masks/clip 1/frame_000000.png"),
        ("panoptic", "panoptic/clip 1/frame_000000.png"),
        ("boxes", "cvat/clip 1.xml"),
        ("scores", "predictions.label-studio-videos.json"),
        ("scores", "clip 1.mp4"),
    ],
)
@pytest.mark.parametrize("earlier", [[], ["json"]])
def test_files_from_elsewhere_stay(run, clip, tmp_path, kind, file, earlier):
    """Whether the folder is new, or has predictions of the video in another form."""
    if earlier:
        run(kind, [clip], "out", "--format", *earlier)
    path = tmp_path / "out" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    with pytest.raises(UserError, match=r"there already, from elsewhere; allowed: another --out, or --overwrite"):
        run(kind, [clip], "out", "--format", *words_for(kind))
    assert path.read_text() == "mine"
    out = run(kind, [clip], "out", "--format", *words_for(kind), "--overwrite")
    assert not path.exists() or path.read_bytes() != b"mine"
    (path.parent / "notes.md").write_text("mine")
    run(kind, [clip], "out", "--format", "csv", "--overwrite")
    left = {str(one.relative_to(out)) for one in out.rglob("*") if one.is_file() and not one.name.startswith(".")}
    assert left == {"predictions.jsonl", "predictions.csv", str((path.parent / "notes.md").relative_to(out))}


def test_a_frame_of_an_earlier_run_is_no_input_to_replace(run, clip, tmp_path):
    out = run("map", [clip], "out", "--format", "masks")
    frame = out / "masks/clip 1/frame_000002.png"
    with pytest.raises(UserError, match=r"--overwrite would remove the input .*frame_000002"):
        run("map", [frame], "out", "--format", "masks", "--overwrite")
    assert frame.is_file()


def test_a_form_that_needs_maps_predicts_a_video_again(run, clip, tmp_path, capsys):
    """The class maps of frames are written only where a form has them: a video has too many frames."""
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "lone.png")
    out = run("map", [clip], "out", "--format", "csv", "pictures")
    assert not (out / "masks").exists()
    run("map", [tmp_path / "lone.png"], "out", "--format", "coco")
    said = capsys.readouterr().err
    assert f"not in it: coco: frames of {clip}, which have no class map: give the videos again" in said
    assert len(json.loads((out / "predictions.coco.json").read_text())["images"]) == 1
    run("map", [clip], "out", "--format", "coco")
    assert "lack a file" in capsys.readouterr().err
    images = json.loads((out / "predictions.coco.json").read_text())["images"]
    assert len(images) == len({one["file_name"] for one in images}) == 9
    (out / "masks/clip 1/frame_000004.png").unlink()
    run("map", [clip], "out", "--format", "cvat")
    assert "lack a file" in capsys.readouterr().err and (out / "masks/clip 1/frame_000004.png").is_file()


def test_label_studio_shows_no_areas_of_frames_and_no_camera(run, clip, tmp_path, capsys):
    with pytest.raises(
        UserError,
        match=r"^--format label-studio has no form for segmentation of a video's frames; .*clip 1\.mp4 is given",
    ):
        run("map", [clip], "out", "--format", "csv", "label-studio")
    with pytest.raises(
        UserError, match=r"^--format label-studio shows the file of a video, .*; webcam-20.*; allowed: pict"
    ):
        run("boxes", ["webcam"], "out", "--format", "label-studio")
    assert not (tmp_path / "out").exists()
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "lone.png")
    run("map", [clip], "out", "--format", "csv")
    out = run("map", [tmp_path / "lone.png"], "out", "--format", "label-studio")
    assert "not in it: label-studio: the frames of videos" in capsys.readouterr().err
    assert len(label_studio(out)[0]) == 1


@pytest.fixture
def camera(monkeypatch, clip):
    monkeypatch.setattr("ziggurat.engine.pyav_video.device_of", lambda number: dict(file=str(clip)))
    clock = SimpleNamespace(strftime=lambda form: "2026-03-01-093000")
    monkeypatch.setattr("ziggurat.engine.predicted.inputs.time", clock)
    return "webcam-2026-03-01-093000"


@pytest.mark.parametrize("kind", ["masks", "map"])
@pytest.mark.parametrize("end", ["frames", "Ctrl-C"])
def test_a_camera_is_in_all_files(run, camera, tmp_path, kind, end):
    """They are written when --max-frames or Ctrl-C ends a camera."""
    words = [word for word in words_for(kind) if FORMATS[word].live]
    if end == "frames":
        run(kind, ["webcam"], "out", "--format", *words, "--max-frames", "3")
    else:
        with pytest.raises(Stopped):
            run(kind, ["webcam"], "out", "--format", *words, stop_after=3)
    out = tmp_path / "out"
    images = json.loads((out / "predictions.coco.json").read_text())["images"]
    assert [one["file_name"] for one in images] == [f"{camera}/{VIDEO(i)}.jpg" for i in range(3)]
    assert len(tree(out / f"cvat/{camera}.xml").findall("image")) == 3
    assert sorted(path.stem for path in (out / "masks" / camera).iterdir()) == [VIDEO(i) for i in range(3)]
    assert (out / f"{camera}.mp4").is_file() and (out / "predictions.csv").is_file()


def test_label_studio_leaves_an_earlier_camera_out(run, camera, clip, capsys):
    run("boxes", ["webcam"], "out", "--format", "csv")
    out = run("boxes", [clip], "out", "--format", "label-studio")
    assert f"not in it: label-studio: {camera}: a camera or a stream" in capsys.readouterr().err
    tasks, _ = label_studio(out, "predictions.label-studio-videos")
    assert [task["data"]["video"].rpartition("/")[2] for task in tasks] == ["clip%201.mp4"]


def test_what_a_killed_run_left_of_frames_goes(run, clip):
    out = run("map", [clip], "out", "--format", "masks")
    left, other = (
        out / "masks" / name for name in ("clip 1/.frame_000003.png.0123abcd.tmp", "x/.frame_000003.png.0123abcd.tmp")
    )
    other.parent.mkdir()
    left.touch(), other.touch()
    run("map", [clip], "out", "--format", "masks")
    assert not left.exists() and other.exists()


@pytest.mark.parametrize("form", ["masks", "labels", "cvat"])
def test_a_file_where_a_folder_would_be_is_named(run, clip, tmp_path, form):
    path = tmp_path / "out" / form / ("clip 1" if form != "cvat" else "clip 1.xml")
    path.parent.mkdir(parents=True)
    path.mkdir() if form == "cvat" else path.touch()
    with pytest.raises((UserError, OSError), match=form):
        run("masks", [clip], "out", "--format", "yolo", "masks", "cvat")

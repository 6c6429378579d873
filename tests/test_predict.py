"""tools/predict.py: a picture and JSON for each image in every task, with figures in the image's own pixels.

Bad images are named and skipped. No file of the user is overwritten.
"""

import csv
import itertools
import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from backbones import UserError
from backbones.reading import Reading
from backbones.weights import own_meta
from ziggurat.engine.config import load_config
from ziggurat.engine.num_classes import set_num_classes
from ziggurat.engine.tasks import task_for

CONFIGS = {
    "classification": "classification/configs/demo/van_b0_digits.py",
    "detection": "detection/configs/demo/mask_rcnn_van_b0_digits.py",
    "segmentation": "segmentation/configs/demo/semantic_fpn_van_b0_digits.py",
}
DIGITS = [str(i) for i in range(10)]


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory, request):
    """Checkpoints of random networks, as a training leaves them."""
    import os

    os.chdir(request.config.rootpath)
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("checkpoints")
    for task, path in CONFIGS.items():
        cfg = load_config(path, {"data_root": str(folder)})
        classes = ["background", *DIGITS] if task == "segmentation" else DIGITS
        set_num_classes(cfg.model, len(classes))
        model = task_for(cfg).build_model(cfg)
        own = own_meta(model, None, None, task=task, classes=classes, config=cfg.to_dict())
        torch.save({"state_dict": model.state_dict(), "meta": {"ziggurat": own}}, folder / f"{task}.pth")
    return folder


@pytest.fixture
def photos(tmp_path):
    """A landscape image, and the same enlarged twice."""
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    small = Image.fromarray(pixels).resize((128, 96), Image.Resampling.NEAREST)
    small.save(folder / "small.png")
    small.resize((256, 192), Image.Resampling.NEAREST).save(folder / "large.png")
    return folder


def predict(monkeypatch, task, checkpoints, images, out, *options):
    import predict

    argv = [CONFIGS[task], checkpoints / f"{task}.pth", *images, "--device", "cpu", *options]
    argv += ["--out", out] if out else []
    monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, argv)])
    return predict.main()


def exit_status(monkeypatch, *args):
    import predict as tool

    from ziggurat.engine.cli import run_tool

    monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, args)])
    with pytest.raises(SystemExit) as end:
        run_tool(tool.main)
    return end.value.code


def read(out, stem):
    return json.loads((out / f"{stem}.json").read_text())


def test_boxes_and_masks_are_in_the_pixels_of_the_image(monkeypatch, checkpoints, photos, tmp_path):
    from pycocotools import mask as coco_mask

    out = tmp_path / "out"
    assert predict(monkeypatch, "detection", checkpoints, [photos], out, "--score-thr", 0.05) == 0
    small, large = read(out, "small"), read(out, "large")
    assert (small["width"], small["height"]) == (128, 96) and (large["width"], large["height"]) == (256, 192)
    assert len(small["boxes"]) == len(small["scores"]) == len(small["labels"]) == len(small["masks"]) > 0
    assert small["categories"] == [DIGITS[label] for label in small["labels"]]
    np.testing.assert_allclose(np.array(large["boxes"]), 2 * np.array(small["boxes"]), atol=0.05)
    boxes = np.array(small["boxes"])
    assert (boxes >= 0).all() and (boxes[:, [0, 2]] <= 128).all() and (boxes[:, [1, 3]] <= 96).all()
    assert (boxes[:, 2:] >= boxes[:, :2]).all() and min(small["scores"]) >= 0.05
    for mask, (x0, y0, x1, y1) in zip(small["masks"], small["boxes"]):
        decoded = coco_mask.decode(mask)
        assert decoded.shape == (96, 128)
        rows, columns = np.nonzero(decoded)
        if len(rows):
            assert x0 - 2 <= columns.min() and columns.max() <= x1 + 2
            assert y0 - 2 <= rows.min() and rows.max() <= y1 + 2
    assert Image.open(out / "small.png").width >= 480


def test_a_threshold_leaves_boxes_out(monkeypatch, checkpoints, photos, tmp_path):
    predict(monkeypatch, "detection", checkpoints, [photos / "small.png"], tmp_path / "out", "--score-thr", 1.0)
    content = read(tmp_path / "out", "small")
    assert content["boxes"] == content["scores"] == content["masks"] == []


def test_masks_of_classes_have_the_size_of_the_image(monkeypatch, checkpoints, photos, tmp_path):
    out = tmp_path / "out"
    assert predict(monkeypatch, "segmentation", checkpoints, [photos], out) == 0
    for stem, size in (("small", (128, 96)), ("large", (256, 192))):
        mask = Image.open(out / "masks" / f"{stem}.png")
        assert mask.size == size and mask.mode == "L"
        indices = np.asarray(mask)
        classes = read(out, stem)["classes"]
        assert sum(row["fraction"] for row in classes) == pytest.approx(1, abs=1e-4)
        for row in classes:
            assert row["name"] == (["background", *DIGITS])[row["index"]]
            assert row["fraction"] == pytest.approx((indices == row["index"]).mean(), abs=1e-5)
        assert (out / f"{stem}.png").is_file()


def test_the_five_best_classes(monkeypatch, checkpoints, photos, tmp_path):
    out = tmp_path / "out"
    assert predict(monkeypatch, "classification", checkpoints, [photos], out) == 0
    content = read(out, "small")
    assert content["categories"] == [DIGITS[label] for label in content["labels"]]
    assert len(content["scores"]) == 5 and content["scores"] == sorted(content["scores"], reverse=True)
    assert 0 < sum(content["scores"]) <= 1.0001
    assert (out / "small.png").is_file()


def test_bad_images_are_skipped_named_twice_and_counted(monkeypatch, checkpoints, photos, tmp_path, capsys):
    (photos / "text.png").write_text("no image")
    (photos / "cut.png").write_bytes((photos / "large.png").read_bytes()[:400])
    Image.new("RGB", (64, 31)).save(photos / "tiny.png")
    gone = photos / "gone.png"
    out = tmp_path / "out"
    assert predict(monkeypatch, "segmentation", checkpoints, [photos, gone], out) == 1
    printed = capsys.readouterr()
    for name in ("text.png", "cut.png", "tiny.png", "gone.png"):
        assert printed.err.count(name) == 2
        assert not (out / name).exists()
    assert "2 of 6 images" in printed.out
    assert (out / "small.json").is_file() and (out / "large.json").is_file()


def test_equal_names_do_not_overwrite_each_other(monkeypatch, checkpoints, photos, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    Image.new("RGB", (40, 50)).save(other / "small.jpg")
    out = tmp_path / "out"
    assert predict(monkeypatch, "segmentation", checkpoints, [photos / "small.png", other], out) == 0
    images = {json.loads(path.read_text())["image"] for path in out.glob("*.json")}
    assert images == {str(photos / "small.png"), str(other / "small.jpg")}


def test_the_input_is_not_overwritten(monkeypatch, checkpoints, photos, capsys):
    before = (photos / "small.png").read_bytes()
    args = (CONFIGS["segmentation"], checkpoints / "segmentation.pth", photos, "--out", photos, "--device", "cpu")
    assert exit_status(monkeypatch, *args) == 2
    assert "would overwrite" in capsys.readouterr().err
    assert (photos / "small.png").read_bytes() == before


@pytest.mark.parametrize("workers", [0, 2])
def test_a_table_of_many_images(monkeypatch, checkpoints, photos, tmp_path, capsys, workers):
    """Batches give what single images give. Images that cannot be read are named at the end, and have no row."""
    (photos / "cut.png").write_bytes((photos / "large.png").read_bytes()[:400])
    for i in range(3):
        Image.effect_noise((50, 60), 80).convert("RGB").save(photos / f"noise{i}.png")
    table = tmp_path / "tables/predictions.csv"
    args = (checkpoints / "classification.pth", photos, "--format", "csv", "--out", tmp_path / "tables")
    args += ("--batch-size", 2, "--workers", workers)
    assert exit_status(monkeypatch, *args, "--device", "cpu") == 1
    printed = capsys.readouterr()
    assert "5 of 6 images" in printed.out and printed.err.splitlines()[-1].startswith("skipped: ")
    assert printed.err.count("cut.png") == 2
    with table.open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["image"])
    names = ["large.png", "noise0.png", "noise1.png", "noise2.png", "small.png"]
    assert [row["image"] for row in rows] == [str(photos / name) for name in names]
    predict(monkeypatch, "classification", checkpoints, [photos / name for name in names], tmp_path / "out")
    for row, name in zip(rows, names, strict=True):
        single = read(tmp_path / "out", name.removesuffix(".png"))
        assert [row[f"class{k}"] for k in ("", "_2", "_3", "_4", "_5")] == single["categories"]
        assert [int(row[f"label{k}"]) for k in ("", "_5")] == [single["labels"][0], single["labels"][4]]
        assert float(row["score"]) == pytest.approx(single["scores"][0], abs=2e-6)
    assert not (tmp_path / "tables/large.png").exists()


@pytest.mark.parametrize("task", CONFIGS)
def test_all_forms_at_once(monkeypatch, checkpoints, photos, tmp_path, task):
    import clips

    from ziggurat.engine.predicted.formats import FORMATS

    kind = task_for(load_config(CONFIGS[task])).result_type
    words = [word for word, one in FORMATS.items() if kind in one.results and kind not in one.images_only]
    out, clip = tmp_path / "out", clips.write_clip(photos / "clip.mp4", [0, 0.1])
    assert predict(monkeypatch, task, checkpoints, [photos], out, "--format", *words, "--score-thr", "0.05") == 0
    for word in words:
        for file in FORMATS[word].files:
            assert all((out / file.format(stem)).is_file() for stem in ("small", "large")), file
        for file in FORMATS[word].of_videos:
            absent = file.startswith("panoptic/") or (file.startswith("masks/") and task == "classification")
            assert len(list(out.glob(file.format("clip")))) == (0 if absent else 2 if "*" in file else 1), file
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    frames, lines = [line for line in lines if "frame" in line], [line for line in lines if line["image"] != str(clip)]
    for line in lines:
        single = read(out, line["file"])
        assert single == {key: value for key, value in line.items() if key not in ("file", "modified")}
    sizes = {line["file"]: (line["width"], line["height"]) for line in lines}
    assert sizes == {"small": (128, 96), "large": (256, 192)}
    if "coco" in words:
        coco = json.loads((out / "predictions.coco.json").read_text())
        frames_named = [f"clip.mp4/frame_00000{i}.jpg" for i in (0, 1)]
        assert [image["file_name"] for image in coco["images"]] == ["large.png", "small.png", *frames_named]
        counts = [len(line.get("boxes") or line["classes"]) for line in lines + frames]
        assert len(coco["annotations"]) == sum(counts) > 0


def test_a_second_run_does_what_is_missing(monkeypatch, checkpoints, photos, tmp_path, capsys):
    out, run = tmp_path / "out", ("classification", checkpoints)
    predict(monkeypatch, *run, [photos / "small.png"], out, "--format", "json", "csv")
    before = (out / "small.json").stat().st_mtime_ns
    assert predict(monkeypatch, *run, [photos], out, "--format", "json", "csv") == 0
    printed = capsys.readouterr().out
    assert "2 of 2 images" in printed and "(1 were there already)" in printed
    assert (out / "small.json").stat().st_mtime_ns == before
    with (out / "predictions.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2
    args = (checkpoints / "classification.pth", photos, "--out", out, "--tta", "--device=cpu")
    assert exit_status(monkeypatch, *args) == 2
    assert "has predictions with tta False, and this run has True" in capsys.readouterr().err
    assert exit_status(monkeypatch, *args, "--overwrite") == 0


def test_a_stopped_run_goes_on(monkeypatch, checkpoints, photos, tmp_path, capsys):
    """Ctrl-C after one image of two leaves its files, and the same command does the other one."""
    from ziggurat.engine import Predictor

    each = Predictor.each

    def stopped(self, images, num_workers=0):
        yield from itertools.islice(each(self, images, num_workers), 1)
        raise KeyboardInterrupt

    args = (checkpoints / "detection.pth", photos, "--out", tmp_path / "out", "--device", "cpu")
    with monkeypatch.context() as context:
        context.setattr(Predictor, "each", stopped)
        assert exit_status(context, *args) == 130
    assert {path.stem for path in (tmp_path / "out").glob("*.json")} == {"large"}
    capsys.readouterr()
    assert exit_status(monkeypatch, *args) == 0 and "(1 were there already)" in capsys.readouterr().out
    assert len((tmp_path / "out/predictions.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("task", "options", "words"),
    [
        (
            "classification",
            ["--format", "yolo"],
            "--format yolo is not for classification; allowed: pictures, json",
        ),
        ("segmentation", ["--format", "yolo"], "--format yolo is not for segmentation"),
        ("detection", ["--format", "xml"], "unknown --format 'xml'; allowed: pictures, json, masks, csv, coco, yolo"),
        ("classification", ["--format", "csv", "--batch-size", "0"], "--batch-size is 0"),
        ("classification", ["--format", "csv", "--workers", "-1"], "--workers is -1"),
    ],
)
def test_forms_that_cannot_be_made(monkeypatch, checkpoints, photos, tmp_path, capsys, task, options, words):
    monkeypatch.chdir(tmp_path)
    args = (checkpoints / f"{task}.pth", photos, "--out", tmp_path / "out", *options, "--device", "cpu")
    assert exit_status(monkeypatch, *args) == 2
    message = capsys.readouterr().err
    assert words in message and message.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("task", CONFIGS)
def test_a_checkpoint_of_ours_needs_no_config(monkeypatch, task, checkpoints, photos, tmp_path):
    predict(monkeypatch, task, checkpoints, [photos / "small.png"], tmp_path / "with")
    args = (checkpoints / f"{task}.pth", photos / "small.png", "--out", tmp_path / "without", "--device", "cpu")
    assert exit_status(monkeypatch, *args) == 0
    assert read(tmp_path / "without", "small") == read(tmp_path / "with", "small")


def test_videos_beside_images(monkeypatch, checkpoints, photos, tmp_path, capsys):
    """A folder's videos are predicted frame by frame. A line has the frame's index and time."""
    import clips

    out = tmp_path / "out"
    clip, silent = clips.write_clip(photos / "small.mp4"), clips.write_sound(photos / "sound.mp4")
    arguments = (monkeypatch, "segmentation", checkpoints, [photos], out, "--every", 2, "--max-frames", 3)
    assert predict(*arguments) == 1
    text = capsys.readouterr()
    assert f"{clip}: 3 frames" in text.out and "3 of 4 images and videos" in text.out
    assert f"skipped: {silent} has no pictures, only audio; allowed: a video" in text.err
    rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    frames = [row for row in rows if "frame" in row]
    assert [(row["frame"], row["time"]) for row in frames] == [(i, clips.TIMES[i]) for i in (0, 2, 4)]
    assert {(row["image"], row["file"], row["width"], row["height"]) for row in frames} == {
        (str(clip), "photos_small_2", 64, 48)
    }
    assert all(row["classes"] for row in frames) and rows[-1]["frames"] == 3
    assert sorted(path.name for path in out.glob("*.mp4")) == ["photos_small_2.mp4"]
    assert sorted(path.name for path in out.glob("*.png")) == ["large.png", "photos_small.png"]

    drawn = (out / "photos_small_2.mp4").stat()
    assert predict(*arguments) == 1 and "(3 were there already)" in capsys.readouterr().out
    assert (out / "photos_small_2.mp4").stat().st_mtime == drawn.st_mtime
    predict(*arguments, "--overwrite", "--format", "json", "csv")
    assert not list(out.glob("*.mp4")), "an older video goes"
    with (out / "predictions.csv").open() as file:
        cells = {(row["image"], row["frame"], row["time"]) for row in csv.DictReader(file)}
    assert cells == {
        *((str(photos / f"{name}.png"), "", "") for name in ("small", "large")),
        *((str(clip), str(i), str(clips.TIMES[i])) for i in (0, 2, 4)),
    }


def test_what_is_given_twice_is_done_once(monkeypatch, photos, tmp_path):
    from ziggurat.engine.predicted.inputs import list_inputs

    (tmp_path / "link").symlink_to(photos, target_is_directory=True)
    again = [photos / "small.png", photos / "../photos/small.png", "photos", "link"]
    (photos / "small.mp4").touch()
    monkeypatch.chdir(tmp_path)
    found = list_inputs([photos, *again], Reading())
    assert found == [photos / "large.png", photos / "small.png", photos / "small.mp4"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"^no images and no videos in empty; readable: .*\.png.*\.mp4"):
        list_inputs([photos, "empty"], Reading())


def test_earlier_predictions_are_no_images(photos):
    """Those in a folder of results are left out, unless the folder, or one inside it, is given itself."""
    from ziggurat.engine.predicted.inputs import without_results

    found, inside, lone = photos / "found/small.png", photos / "found/in/a.png", photos / "small.png"
    paths = [lone, found, inside]
    assert without_results(paths, [str(photos)], photos / "found") == [lone]
    assert without_results(paths, [str(photos), str(inside.parent)], photos / "found") == [lone, inside]
    assert without_results(paths, [str(lone), str(found)], photos / "found") == [lone, found]
    assert without_results([lone], [str(photos)], photos.parent) == [lone], "images below the folder of results"
    assert without_results(paths, [str(photos)], photos) == paths
    with pytest.raises(UserError, match="no images but earlier predictions"):
        without_results([found], [str(photos)], photos / "found")


@pytest.mark.parametrize("name", ["small.png", "masks"])
def test_a_folder_where_a_file_would_be_is_one_line(monkeypatch, checkpoints, photos, tmp_path, capsys, name):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).mkdir() if name == "small.png" else (out / name).touch()
    args = (checkpoints / "segmentation.pth", photos / "small.png", "--out", out, "--overwrite", "--device", "cpu")
    assert exit_status(monkeypatch, *args) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: {out / name}") and message.count("\n") == 1


def test_cameras_and_streams_have_names_of_their_own():
    from ziggurat.engine.predicted.inputs import without_live

    rest, live = without_live(["a.mp4", "webcam:1", "rtsp://me:secret@host/live", "photos"])
    assert rest == ["a.mp4", "photos"] and list(live.values()) == ["webcam:1", "rtsp://me:secret@host/live"]
    first, second = map(str, live)
    assert first.startswith("webcam-1-20") and second.startswith("rtsp-host-live-20") and "secret" not in second


def test_an_image_beyond_the_limit_needs_an_option(monkeypatch, checkpoints, photos, tmp_path, capsys):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 96 * 128 // 2 - 1)
    small = [photos / "small.png"]
    assert predict(monkeypatch, "segmentation", checkpoints, small, tmp_path / "out") == 1
    assert "--max-pixels N of tools/predict.py" in capsys.readouterr().err
    assert predict(monkeypatch, "segmentation", checkpoints, small, tmp_path / "out", "--max-pixels", 96 * 128) == 0


@pytest.mark.parametrize("args", [["epoch_1.pth"], [CONFIGS["detection"]], [CONFIGS["detection"], "epoch_1.pth"]])
def test_too_few_arguments_are_said(monkeypatch, args, capsys):
    assert exit_status(monkeypatch, *args) == 2
    assert "needed: [CONFIG] CHECKPOINT IMAGE_OR_FOLDER" in capsys.readouterr().err


def test_inputs_that_are_all_absent_make_no_folder(monkeypatch, checkpoints, tmp_path, capsys):
    given = f"{tmp_path}/absent/"
    args = (CONFIGS["detection"], checkpoints / "detection.pth", given, "--out", tmp_path / "out")
    assert exit_status(monkeypatch, *args) == 2 and not (tmp_path / "out").exists()
    message = capsys.readouterr().err
    assert message.startswith(f"error: no such file or folder: {given}; allowed: ") and message.count("\n") == 1


def test_a_checkpoint_of_another_network_is_refused(monkeypatch, checkpoints, photos, tmp_path, capsys):
    args = (CONFIGS["detection"], checkpoints / "segmentation.pth", photos, "--out", tmp_path / "out")
    assert exit_status(monkeypatch, *args, "--device", "cpu") == 2
    message = capsys.readouterr().err
    assert "segmentation.pth" in message and "missing" in message and len(message.splitlines()) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_no_gpu_where_one_was_asked_for(monkeypatch, checkpoints, photos, capsys):
    args = (CONFIGS["detection"], checkpoints / "detection.pth", photos, "--device", "cuda")
    assert exit_status(monkeypatch, *args) == 2
    assert "GPU" in capsys.readouterr().err


def test_the_description_beside_an_exported_file_names_the_file(monkeypatch):
    import predict

    monkeypatch.setattr(sys, "argv", ["predict.py", "net.onnx.json", "photos/"])
    with pytest.raises(UserError, match=r"^net\.onnx\.json tells of an exported file; allowed: net\.onnx$"):
        predict.parse_args()

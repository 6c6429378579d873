"""browse_dataset draws samples of every task after their pipeline, and draws the truth of the data set."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools import browse_dataset
from tools.make_demo_data import make_demo_data
from ziggurat.engine.cli import run_tool

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = {
    "digits": "classification/configs/demo/van_b0_digits.py",
    "coco": "detection/configs/demo/mask_rcnn_van_b0_digits.py",
    "ade": "segmentation/configs/demo/upernet_van_b0_digits.py",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "demo"
    return make_demo_data(out, num_train=6, num_val=3, digits_train=20, digits_val=10)


@pytest.fixture
def browse(monkeypatch, capsys):
    """Calls the tool in this process: status, what it printed, what it complained of."""

    def call(config, *args):
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", ["browse_dataset.py", config, *map(str, args)])
        with pytest.raises(SystemExit) as end:
            run_tool(browse_dataset.main)
        return end.value.code, *capsys.readouterr()

    return call


@pytest.mark.parametrize("layout", CONFIGS)
@pytest.mark.parametrize("split, number", [("train", 4), ("val", 3)])
def test_samples_of_every_task_are_drawn(layout, split, number, data, tmp_path, browse):
    options = ["--cfg-options", f"data_root={data / layout}"]
    status, printed, complaints = browse(
        CONFIGS[layout], "--split", split, "--num", number, "--out", tmp_path / "out", *options
    )
    assert not status, complaints
    assert str(tmp_path / "out/sheet.png") in printed
    names = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert len(names) == number + 1 and names[-1] == "sheet.png"
    drawn = [np.asarray(Image.open(tmp_path / "out" / name)) for name in names]
    assert drawn[-1].shape[1] == 1600
    assert all(picture.std() > 10 for picture in drawn), "blank"
    assert not any(np.array_equal(drawn[0], other) for other in drawn[1:])


def test_masks_and_boxes_of_validation_are_on_the_picture(data, tmp_path, browse):
    """Validation pipelines load no boxes; drawn they are nevertheless, where the annotation file has them."""
    browse(
        CONFIGS["coco"], "--split", "val", "--num", 1, "--out", tmp_path, "--cfg-options", f"data_root={data / 'coco'}"
    )
    picture = Image.open(tmp_path / "000000.png")
    scene = Image.open(data / "coco/val2017/000000000001.jpg").resize(picture.size, Image.Resampling.BICUBIC)
    changed = np.abs(np.asarray(picture, int) - np.asarray(scene, int)).max(-1) > 40
    scale = picture.width // 128
    truth = json.loads((data / "coco/annotations/instances_val2017.json").read_text())
    boxes = [a["bbox"] for a in truth["annotations"] if a["image_id"] == 1]
    for x, y, _, height in boxes:
        left_edge = changed[(y + height // 2) * scale : (y + height) * scale, x * scale]
        assert left_edge.mean() > 0.9, "no line at the left of a box"
    far = np.ones_like(changed)
    for x, y, width, height in boxes:
        far[max(0, (y - 14) * scale) : (y + height + 1) * scale, max(0, (x - 1) * scale) : (x + width + 20) * scale] = (
            False
        )
    assert changed[far].mean() < 0.01


@pytest.mark.parametrize(
    "args, message",
    [
        (["detection/configs/demo/mask_rcnn_van_b9_digits.py"], "no such config"),
        ([CONFIGS["coco"], "--cfg-options", "data_root=/nowhere"], "/nowhere"),
        ([CONFIGS["coco"], "--num", "0"], "'0'"),
    ],
)
def test_mistakes_are_one_line(args, message, browse):
    status, _, complaints = browse(*args)
    assert status == 2
    assert message in complaints
    assert complaints.startswith("error: ") and complaints.count("\n") == 1


def test_files_of_the_user_stay(data, tmp_path, browse):
    (tmp_path / "000000.png").write_text("mine")
    status, _, complaints = browse(CONFIGS["digits"], "--data", data / "digits", "--out", tmp_path)
    assert status == 2 and f"error: --out {tmp_path} has 000000.png, and no page" in complaints
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]

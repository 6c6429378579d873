"""Data sets of any format written as COCO json or as index masks, with what is lost."""

import json

import numpy as np
import own_files
import pytest
from helpers import run
from own_files import picture, text
from PIL import Image
from pycocotools import mask as coco_mask

from tools import convert_dataset
from ziggurat.engine.own_data import prepare


def convert(root, to, out, monkeypatch, capsys, *more):
    return run(convert_dataset, [root, "--to", to, "--out", out, *more], monkeypatch, capsys)


@pytest.mark.parametrize("name", own_files.WRITERS)
def test_what_is_written_is_read_as_the_same(name, tmp_path, monkeypatch, capsys):
    root = tmp_path / "mine"
    own_files.WRITERS[name](root)
    status, out, err = convert(root, "coco", tmp_path / "out", monkeypatch, capsys)
    assert status == 0, err
    images = 1 if name == "voc" else 2
    assert out == f"train: {images} images, val: {images} images; written to {tmp_path / 'out'}\n"
    if name == "cvat":
        assert "2 shapes of type polyline left out, which have no area: train/annotations.xml:7" in err
    before = prepare(root, cache=tmp_path / "cache")
    (tmp_path / "out").rename(root / "annotations_of_coco")
    after = prepare(
        root,
        "coco",
        cache=tmp_path / "cache2",
        data_files=dict(
            train="annotations_of_coco/annotations/instances_train.json",
            val="annotations_of_coco/annotations/instances_val.json",
        ),
    )
    for split in ("train", "val"):
        old, new = (json.loads(one.files[split].read_text()) for one in (before, after))
        assert old["categories"] == new["categories"]
        for key in ("file_name", "width", "height"):
            assert [one[key] for one in old["images"]] == [one[key] for one in new["images"]]
        for key in ("image_id", "category_id", "bbox", "area", "iscrowd", "segmentation"):
            assert [one.get(key) for one in old["annotations"]] == [one.get(key) for one in new["annotations"]]


def test_objects_become_index_masks_with_a_legend(tmp_path, monkeypatch, capsys):
    status, _, err = convert(own_files.cvat(tmp_path / "mine"), "masks", tmp_path / "out", monkeypatch, capsys)
    assert status == 0 and "objects that are boxes alone, whose pixels are unlabelled" in err
    legend = json.loads((tmp_path / "out/legend.json").read_text())
    assert legend == {"background": 0, "dog": 1, "cat": 2, "ignore": 255}
    mask = np.asarray(Image.open(tmp_path / "out/train/train/images/b.png"))
    content = json.loads(prepare(tmp_path / "mine", cache=tmp_path / "c").files["train"].read_text())
    objects = [one["segmentation"] for one in content["annotations"] if one["image_id"] == 2]
    codes = [coco_mask.frPyObjects(one, 50, 20)[0] if isinstance(one, list) else one for one in objects]
    assert np.array_equal(mask, coco_mask.decode(coco_mask.merge(codes)))


def test_coloured_masks_become_index_masks(tmp_path, monkeypatch, capsys):
    for split in ("train", "val"):
        picture(tmp_path / f"mine/{split}/images/x.jpg", (2, 1))
        path = tmp_path / f"mine/{split}/masks/x.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(np.array([[[9, 0, 0], [0, 0, 7]]], np.uint8)).save(path)
    legend = text(tmp_path / "legend.txt", "0 0 7 road", "9 0 0 car")
    argv = ["--cfg-options", f"legend={legend}"]
    status, _, err = convert(tmp_path / "mine", "masks", tmp_path / "out", monkeypatch, capsys, *argv)
    assert status == 0, err
    assert np.asarray(Image.open(tmp_path / "out/val/val/images/x.png")).tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--cfg-options", "lr=1"], "option lr changes nothing here; allowed: val_share, val_group"),
        (["--format", "x"], "unknown data_format 'x'"),
        ([], "--out {out} is not empty; allowed: a new or empty folder"),
    ],
)
def test_mistakes_are_one_line(argv, words, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    text(out / "notes.txt", "mine") if not argv else out.mkdir()
    status, _, err = convert(own_files.yolo(tmp_path / "mine"), "coco", out, monkeypatch, capsys, *argv)
    assert status == 2 and words.format(out=out) in err and err.count("\n") == 1

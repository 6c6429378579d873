"""The demo data: valid in their formats, COCO's panoptic one included, truly held out, the same bytes every time.

The folder is either unchanged or a complete set. The tool replaces only sets that it wrote itself.
"""

import contextlib
import hashlib
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from backbones import UserError
from tools import make_demo_data as demo

COUNTS = dict(num_train=8, num_val=4, digits_train=20, digits_val=10)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return demo.make_demo_data(tmp_path_factory.mktemp("data") / "demo", **COUNTS)


def coco(root, split):
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(root / f"coco/annotations/instances_{split}2017.json")


@pytest.mark.parametrize("split, count", [("train", 20), ("val", 10)])
def test_digits_are_an_imagenet_folder(root, split, count):
    folder = root / "digits" / split
    assert sorted(path.name for path in folder.iterdir()) == [str(digit) for digit in range(10)]
    sizes = [Image.open(path).size for path in folder.glob("*/*.png")]
    assert sizes == [(64, 64)] * count
    assert all(len(list(path.iterdir())) == count // 10 for path in folder.iterdir())


@pytest.mark.parametrize("split, count", [("train", 8), ("val", 4)])
def test_coco_boxes_are_tight_around_masks(root, split, count):
    data = coco(root, split)
    assert len(data.imgs) == count
    assert [category["name"] for category in data.loadCats(data.getCatIds())] == [str(digit) for digit in range(10)]
    assert {path.name for path in (root / f"coco/{split}2017").iterdir()} == {
        i["file_name"] for i in data.imgs.values()
    }
    for image in data.imgs.values():
        annotations = data.imgToAnns[image["id"]]
        assert 1 <= len(annotations) <= 5
        for one in annotations:
            mask = data.annToMask(one)
            assert mask.shape == (image["height"], image["width"]) == (128, 128)
            rows, columns = np.nonzero(mask)
            x, y, width, height = one["bbox"]
            assert (x, y) == (columns.min(), rows.min())
            assert (x + width, y + height) == (columns.max() + 1, rows.max() + 1)
            assert one["area"] == mask.sum() > 40
            assert one["iscrowd"] == 0


@pytest.mark.parametrize("split, ade_split", [("train", "training"), ("val", "validation")])
def test_ade_masks_are_the_coco_masks(root, split, ade_split):
    data = coco(root, split)
    for image in data.imgs.values():
        expected = np.ones((128, 128), np.uint8)
        for one in data.imgToAnns[image["id"]]:
            mask = data.annToMask(one) > 0
            assert (expected[mask] == 1).all(), "two digits claim one pixel"
            expected[mask] = int(data.cats[one["category_id"]]["name"]) + 2
        stem = image["file_name"].removesuffix(".jpg")
        labels = Image.open(root / f"ade/annotations/{ade_split}/{stem}.png")
        assert labels.mode == "L"
        np.testing.assert_array_equal(np.asarray(labels), expected)
        scene = (root / f"ade/images/{ade_split}/{stem}.jpg").read_bytes()
        assert scene == (root / f"coco/{split}2017/{stem}.jpg").read_bytes()


@pytest.mark.parametrize("split", ["train", "val"])
def test_panoptic_maps_are_the_digits_and_their_photograph(root, split):
    data = coco(root, split)
    panoptic = json.loads((root / f"coco/annotations/panoptic_{split}2017.json").read_text())
    kinds = [category["isthing"] for category in panoptic["categories"]]
    assert kinds == sorted(kinds, reverse=True) and sum(kinds) == 10, "things come before stuff"
    names = {category["id"]: category["name"] for category in panoptic["categories"]}
    assert [image["id"] for image in panoptic["images"]] == list(data.imgs)
    for one in panoptic["annotations"]:
        colours = np.asarray(Image.open(root / f"coco/annotations/panoptic_{split}2017" / one["file_name"]), int)
        ids = colours @ [1, 256, 256**2]
        *things, stuff = one["segments_info"]
        truth = data.imgToAnns[one["image_id"]]
        for segment, digit in zip(things, truth, strict=True):
            np.testing.assert_array_equal(ids == segment["id"], data.annToMask(digit) > 0)
            assert names[segment["category_id"]] == data.cats[digit["category_id"]]["name"]
            assert (segment["bbox"], segment["area"]) == (digit["bbox"], digit["area"])
        assert stuff["area"] == (ids == stuff["id"]).sum() == ids.size - sum(digit["area"] for digit in truth)
        photo = demo.PHOTOS[demo.scene_start(split, one["image_id"] - 1, seed=0)[1]]
        assert names[stuff["category_id"]] == (photo if photo in ("brick", "grass", "gravel") else "photograph")


def test_the_stuff_is_the_photograph_that_was_painted_on(monkeypatch):
    painted = []
    monkeypatch.setattr(demo, "photo_crop", lambda rng, photo, size: painted.append(photo) or np.zeros((size, size, 3)))
    for index in range(12):
        demo.make_scene("val", index, 64, seed=0)
        assert painted[-1] is demo.photos("val")[demo.scene_start("val", index, seed=0)[1]]


def test_a_set_of_an_older_version_is_completed(root, tmp_path):
    shutil.copytree(root, tmp_path / "old", ignore=shutil.ignore_patterns("panoptic_*"))
    maps = tmp_path / "old/coco/annotations/panoptic_val2017"  # of a call that was interrupted
    maps.mkdir()
    (maps / "000000000009.png").touch()
    assert digests(demo.complete_demo_data(tmp_path / "old")) == digests(root)
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="no demo data"):
        demo.complete_demo_data(tmp_path)


def test_validation_shares_no_scan_and_no_photo_pixel_with_training(monkeypatch):
    train, val = ({scan.tobytes() for scan in demo.scans(split, seed=0)[0]} for split in ("train", "val"))
    assert len(train) > 3 * len(val) > 300
    assert not train & val

    # On photographs that are black where training may look and white elsewhere, no crop is ever of both.
    def half_black():
        pixels = np.full((160, 200, 3), 255, np.uint8)
        pixels[:, : round(200 * demo.TRAIN_SHARE)] = 0
        return pixels

    monkeypatch.setattr(demo, "photo", lambda name: half_black())
    demo.photos.cache_clear()
    try:
        black, white = demo.photos("train")[0], demo.photos("val")[0]
        for seed in range(50):
            assert np.ptp(demo.photo_crop(np.random.default_rng(seed), black, 64)) == 0
            assert np.ptp(demo.photo_crop(np.random.default_rng(seed), white, 64)) == 0
            assert demo.photo_crop(np.random.default_rng(seed), white, 64).mean() > 0.3
    finally:
        demo.photos.cache_clear()


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(root, tmp_path):
    again = demo.make_demo_data(tmp_path / "again", **COUNTS)
    other = demo.make_demo_data(tmp_path / "other", **COUNTS, seed=1)
    assert digests(again) == digests(root)
    assert digests(other).keys() == digests(root).keys()
    assert digests(other) != digests(root)


def test_more_images_leave_the_first_ones_as_they_were(root, tmp_path):
    more = digests(demo.make_demo_data(tmp_path / "more", **{**COUNTS, "num_train": 10, "digits_train": 30}))
    first = {name: digest for name, digest in digests(root).items() if not name.endswith(".json")}
    assert first.items() <= more.items()


def digests(root):
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_set_is_replaced_only_when_asked(tmp_path):
    out = demo.make_demo_data(tmp_path / "demo", **COUNTS)
    with pytest.raises(UserError, match="--overwrite"):
        demo.make_demo_data(out, **COUNTS)
    demo.make_demo_data(out, **{**COUNTS, "num_val": 2}, overwrite=True)
    assert len(list((out / "coco/val2017").iterdir())) == 2


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_the_user_is_never_replaced(tmp_path, overwrite):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="other things"):
        demo.make_demo_data(tmp_path, **COUNTS, overwrite=overwrite)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_an_interrupted_run_leaves_nothing_behind(tmp_path, monkeypatch):
    old = demo.make_demo_data(tmp_path / "demo", **COUNTS)
    before = digests(old)

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "write_scenes", interrupt)
    with pytest.raises(KeyboardInterrupt):
        demo.make_demo_data(old, **COUNTS, seed=1, overwrite=True)
    with pytest.raises(KeyboardInterrupt):
        demo.make_demo_data(tmp_path / "new", **COUNTS)
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
    assert digests(old) == before


@pytest.mark.parametrize("bad", [dict(num_train=0), dict(digits_val=-1), dict(size=32)])
def test_impossible_counts_are_named(tmp_path, bad):
    ((name, value),) = bad.items()
    with pytest.raises(UserError, match=f"{name} {value}"):
        demo.make_demo_data(tmp_path / "demo", **{**COUNTS, **bad})
    assert not (tmp_path / "demo").exists()


def test_larger_scenes_are_possible(tmp_path):
    out = demo.make_demo_data(tmp_path / "demo", **{**COUNTS, "num_train": 1}, size=256)
    image = json.loads((out / "coco/annotations/instances_train2017.json").read_text())["images"][0]
    assert (image["height"], image["width"]) == (256, 256)
    assert Image.open(out / "coco/train2017" / image["file_name"]).size == (256, 256)

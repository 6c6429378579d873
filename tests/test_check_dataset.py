"""Everything odd in a data set is found before a training, counted, and named with its cure."""

import copy
import json
import shutil

import dense_data
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from backbones.images import ORIENTATION
from detection.objects import crosses_itself
from ziggurat.engine.cli import run_tool
from ziggurat.engine.config import load_config
from ziggurat.engine.data_root import move_data_root
from ziggurat.engine.dataset_check import check_dataset
from ziggurat.engine.file_findings import HEAD, difference_hash, file_findings
from ziggurat.engine.findings import NOTE, UNUSABLE, WARNING
from ziggurat.engine.tasks import task_for

CONFIG = "detection/configs/van/mask_rcnn_van_b0_fpn_1x_coco.py"


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """4 training images and 2 others, none of which is in the training."""
    root = dense_data.write_coco(tmp_path_factory.mktemp("coco") / "data")
    for number, path in enumerate(sorted((root / "val2017").iterdir())):
        Image.fromarray(dense_data.scene(100 + number)[0]).save(path)
    return root


@pytest.fixture
def coco(original, tmp_path):
    return shutil.copytree(original, tmp_path / "own")


@pytest.fixture(scope="module")
def config(original):
    return load_config(str(ROOT / CONFIG), {"data_root": str(original)})


def findings(root, decode=False, **options):
    return found_by(load_config(CONFIG, {"data_root": str(root), **options}), decode)


def found_by(cfg, decode=False):
    return {(one.id, one.split): one for one in check_dataset(cfg, task_for(cfg), decode).findings}


def change(root, edit, split="train"):
    path = root / f"annotations/instances_{split}2017.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def objects(content, **values):
    """Changes all objects of a file's first image."""
    for annotation in content["annotations"][:2]:
        annotation.update(values)


def add(content, **values):
    content["annotations"].append(content["annotations"][0] | dict(id=99) | values)


def test_sound_data_are_clean(config):
    assert found_by(config, decode=True) == {}


@pytest.mark.parametrize(
    ("id", "edit", "severity", "count"),
    [
        ("box-empty", lambda c: objects(c, bbox=[5, 5, 0, 9]), WARNING, 2),
        ("box-outside", lambda c: objects(c, bbox=[70, 5, 9, 9]), WARNING, 2),
        ("box-larger", lambda c: objects(c, bbox=[0, 0, 99, 9]), WARNING, 2),
        ("box-beyond", lambda c: objects(c, bbox=[40, 0, 30, 9]), WARNING, 2),
        ("object-repeated", lambda c: add(c), WARNING, 1),
        ("box-form", lambda c: objects(c, bbox=[5, 5, -4, 9]), UNUSABLE, 2),
        ("image-unknown", lambda c: objects(c, image_id=77), UNUSABLE, 1),
        ("category-unknown", lambda c: objects(c, category_id=77), UNUSABLE, 1),
        ("annotation-id", lambda c: objects(c, id=5), UNUSABLE, 1),
        ("area-absent", lambda c: objects(c, area=None), UNUSABLE, 2),
        ("crowd-form", lambda c: objects(c, iscrowd=3), UNUSABLE, 2),
        ("mask-absent", lambda c: objects(c, segmentation=None), UNUSABLE, 2),
        ("mask-form", lambda c: objects(c, segmentation=[[1, 1, 9, 9]]), UNUSABLE, 2),
        ("mask-form", lambda c: objects(c, segmentation=[[1, 1, 9, 9, 5, 5, 3]]), UNUSABLE, 2),
        ("mask-form", lambda c: objects(c, segmentation=dict(size=[32, 64], counts=[2048])), UNUSABLE, 2),
        (
            "polygon-crossing",
            lambda c: objects(c, segmentation=[[4, 4, 20, 20, 20, 4, 4, 20]], bbox=[4, 4, 16, 16]),
            WARNING,
            2,
        ),
        (
            "box-beside-mask",
            lambda c: add(c, segmentation=[[4, 4, 20, 4, 20, 20]], bbox=[9, 4, 16, 16]),
            WARNING,
            1,
        ),
        ("image-empty", lambda c: c["annotations"].__delitem__(slice(0, 2)), NOTE, 1),
        ("annotation-unused", lambda c: objects(c, bbox=[5, 5, 0, 9]), WARNING, 2),
        ("annotations-absent", lambda c: c["annotations"].clear(), UNUSABLE, 1),
        ("image-absent", lambda c: c["images"][0].update(file_name="gone.png"), UNUSABLE, 1),
        ("image-outside", lambda c: c["images"][0].update(file_name="../../x.png"), UNUSABLE, 1),
        ("image-size", lambda c: c["images"][0].update(width=32), UNUSABLE, 1),
        ("object-tiny", lambda c: [a.update(bbox=[9, 9, 1, 1], segmentation=[]) for a in c["annotations"]], WARNING, 8),
    ],
)
def test_an_odd_entry_is_found(coco, config, id, edit, severity, count):
    change(coco, edit)
    cfg = copy.deepcopy(config)
    move_data_root(cfg, str(coco))
    cfg.train_dataloader.dataset.pipeline[2].scale = (64, 64)  # the images' own size
    found = found_by(cfg)[id, "train"]
    assert (found.severity, found.count) == (severity, count)
    assert ("\n" not in found.message and str(coco) in found.message) or id == "class-empty"


def test_boxes_that_are_corners_are_told(coco):
    def corners(content):
        for annotation in content["annotations"]:
            x, y, width, height = annotation["bbox"]
            annotation["bbox"] = [x, y, x + width, y + height]

    change(coco, corners)
    found = findings(coco)
    assert "if they were [x1, y1, x2, y2]" in found["box-corners", "train"].message
    assert ("box-beyond", "train") not in found


def test_a_turned_image_is_named_as_such(coco):
    change(coco, lambda c: c["images"][0].update(width=32, height=48))
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(np.zeros((32, 48, 3), np.uint8)).save(coco / "train2017/0000.png", exif=exif)
    assert ("image-size", "train") not in findings(coco)
    change(coco, lambda c: c["images"][0].update(width=48, height=32))
    assert "turned upright by its EXIF orientation 6" in findings(coco)["image-size", "train"].message


def test_files_that_nobody_names_that_are_hidden_damaged_or_equal(coco):
    train, val = coco / "train2017", coco / "val2017"
    (train / ".DS_Store").write_bytes(b"x")
    (train / "Thumbs.db").write_bytes(b"x")
    shutil.copy(train / "0000.png", train / "more.png")
    shutil.copy(train / "0001.png", val / "0001.png")
    found = findings(coco)
    assert found["file-hidden", ""].count == 2 and found["image-extra", ""].examples == (str(train / "more.png"),)
    assert found["image-shared", "val"].examples == (f"{train / '0001.png'} = {val / '0001.png'}",)

    whole = (train / "0002.png").read_bytes()
    (train / "0002.png").write_bytes(whole[: len(whole) // 2])
    Image.open(train / "0003.png").save(val / "0000.png", compress_level=1)
    changed = np.asarray(Image.open(val / "0000.png")).copy()
    changed[0, 0] ^= 1
    Image.fromarray(changed).save(val / "0000.png")
    found = findings(coco, decode=True)
    assert found["image-unreadable", "train"].count == 1 and "0002.png" in found["image-unreadable", "train"].message
    assert found["image-near", "val"].examples == (f"{train / '0003.png'} ~ {val / '0000.png'}",)


def test_files_that_differ_at_their_end_are_not_equal(tmp_path):
    begin = bytes(HEAD)
    for name, content in (("a.bmp", begin + b"1"), ("b.bmp", begin + b"2"), ("c.bmp", begin + b"1")):
        (tmp_path / name).write_bytes(content)
    train, other = [tmp_path / "a.bmp"], [tmp_path / "b.bmp", tmp_path / "c.bmp"]
    (found,) = file_findings({"train": train, "val": other})
    assert found.examples == (f"{train[0]} = {other[1]}",) and found.split == "val"


def test_classes_without_labels_and_categories_that_are_left_out(coco):
    for split in ("train", "val"):
        change(coco, lambda c: c["categories"].append(dict(id=9, name="rare")), split)
    found = findings(coco)
    assert (found["class-empty", "train"].severity, found["class-empty", "val"].severity) == (WARNING, NOTE)
    change(coco, lambda c: objects(c, category_id=9))
    found = findings(coco, classes=["box", "disc"])["category-left-out", "train"]
    assert found.examples == ("rare",) and "2 annotations" in found.message


def test_class_lists_that_differ_between_splits(coco):
    change(coco, lambda c: c["categories"].append(dict(id=9, name="new")), "val")
    found = findings(coco, classes=["box", "disc"])
    assert found["class-unknown", "val"].severity == WARNING
    change(coco, lambda c: c["categories"].pop(), "val")
    change(coco, lambda c: c["categories"].append(dict(id=9, name="rest")))
    change(coco, lambda c: c["annotations"][0].update(category_id=9))
    assert findings(coco, classes=["box", "disc"])["class-lacking", "val"].examples == ("rest",)


@pytest.mark.parametrize("background", ["keep", "drop"])
def test_images_without_objects_are_kept_or_dropped(coco, background):
    change(coco, lambda c: c["annotations"].__delitem__(slice(0, 2)))
    cfg = load_config(CONFIG, {"data_root": str(coco), "background": background})
    kept = background == "keep"
    dataset = task_for(cfg).build_dataset(cfg, "train")
    assert len(dataset) == 3 + kept
    found = findings(coco, background=background)["image-empty", "train"]
    assert ("kept as background" in found.message) == kept


def test_crossing_polygons():
    square = np.array([[0, 0], [4, 0], [4, 4], [0, 4]], float)
    assert not crosses_itself(square) and crosses_itself(square[[0, 2, 1, 3]])
    touching = np.array([[0, 0], [4, 0], [4, 4], [2, 0], [0, 4]], float)
    assert not crosses_itself(touching)


def test_the_difference_hash_sees_brighter_neighbours():
    rising = np.tile(np.arange(9, dtype=np.uint8), (8, 1))
    assert difference_hash(rising) == (1 << 64) - 1 and difference_hash(rising[:, ::-1]) == 0
    one = np.zeros((8, 9), np.uint8)
    one[0, 1] = 1
    assert difference_hash(one) == 1 << 63


@pytest.mark.parametrize(("strict", "status"), [(False, 1), (True, 2)])
def test_the_tool_prints_a_table_and_draws(coco, tmp_path, monkeypatch, capsys, strict, status):
    import check_dataset as tool

    change(coco, lambda c: objects(c, bbox=[60, 5, 9, 9]))
    options = ["--cfg-options", f"data_root={coco}", "--pictures", str(tmp_path / "drawn")]
    monkeypatch.setattr("sys.argv", ["check_dataset.py", CONFIG, *(["--strict"] if strict else []), *options])
    with pytest.raises(SystemExit) as stop:
        run_tool(tool.main)
    out = capsys.readouterr().out
    assert stop.value.code == status
    assert "train: 4 images, val: 2 images" in out and "warning  box-beyond  train  2" in out
    assert [path.name for path in (tmp_path / "drawn").iterdir()] == ["box-beyond_train_1.png"]


def test_the_tool_prints_json(coco, monkeypatch, capsys):
    import check_dataset as tool

    change(coco, lambda c: objects(c, bbox=[60, 5, 9, 9]))
    monkeypatch.setattr("sys.argv", ["check_dataset.py", CONFIG, "--json", "--cfg-options", f"data_root={coco}"])
    with pytest.raises(SystemExit):
        run_tool(tool.main)
    content = json.loads(capsys.readouterr().out)
    (only,) = content["findings"]
    assert content["status"] == 1 and (only["id"], only["count"], only["split"]) == ("box-beyond", 2, "train")
    assert only["places"][0]["box"] == [60, 5, 9, 9]


@pytest.mark.parametrize("task", ["detection", "segmentation", "classification"])
def test_a_folder_is_checked_by_a_config_of_its_task(task, tmp_path, monkeypatch):
    import check_dataset as tool

    if task == "detection":
        dense_data.write_coco(tmp_path / "data")
    elif task == "segmentation":
        dense_data.write_masks(tmp_path / "data")
    else:
        for name in ("cat", "dog"):
            (tmp_path / "data/train" / name).mkdir(parents=True)
            Image.new("RGB", (40, 40)).save(tmp_path / "data/train" / name / "1.png")
    monkeypatch.chdir(tmp_path)
    (config,) = tool.configs_for(tmp_path / "data")
    assert task_for(load_config(config)).name == task


def test_a_folder_of_two_kinds_is_said_to_be_one(tmp_path):
    import check_dataset as tool

    dense_data.write_coco(tmp_path / "data/boxes")
    dense_data.write_masks(tmp_path / "data/scenes")
    assert [task_for(load_config(config)).name for config in tool.configs_for(tmp_path / "data")] == [
        "detection",
        "segmentation",
    ]


def test_the_page_about_own_data_is_the_generated_one(request):
    import own_data_page

    assert (request.config.rootpath / "docs/own_data.md").read_text() == own_data_page.page()


@pytest.mark.parametrize(
    ("factor", "reading", "words"),
    [
        (16, {}, "no value above 4,080 of 65,535"),
        (257, {}, None),
        (16, {"reading.value_range": [0, 4095]}, None),
    ],
)
def test_images_of_16_bits_that_are_read_black(factor, reading, words, tmp_path):
    """The largest value counts, not whether a picture is dark in its own range."""
    from own_data_cases import yolo

    yolo(tmp_path / "d")
    for path in (tmp_path / "d/images").rglob("*.png"):
        grey = np.asarray(Image.open(path).convert("L")).astype(np.uint16) * factor
        grey[0, 0] = 255 * factor
        Image.fromarray(grey).save(path)
    cfg = load_config(
        "detection/configs/van/retinanet_van_b0_fpn_1x_coco.py",
        {"data_root": str(tmp_path / "d"), "data_format": "auto", "data_cache": str(tmp_path / "cache"), **reading},
    )
    found = [one for one in check_dataset(cfg, task_for(cfg)).findings if one.id == "image-dark"]
    assert bool(found) == bool(words)
    if words:
        assert words in found[0].message and "reading.value_range=[0,4095]" in found[0].cure and found[0].count == 6

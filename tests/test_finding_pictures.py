"""Each kind of finding has a picture, or is listed as one of which there is nothing to show."""

import ast
import json

import dense_data
import numpy as np
import pytest
from conftest import ROOT
from mmengine import ConfigDict
from PIL import Image

from backbones.images import ORIENTATION
from backbones.reading import Reading
from classification.data.checks import LabelledFormat
from detection.coco_findings import coco_findings
from detection.panoptic import PanopticFormat
from segmentation.mask_findings import mask_findings
from ziggurat.engine.dataset_check import counted, other_classes
from ziggurat.engine.deep_images import dark_images
from ziggurat.engine.file_findings import file_findings
from ziggurat.engine.finding_pictures import draw_findings
from ziggurat.engine.findings import UNSEEN, Finding, Place
from ziggurat.engine.pages.charts import draw_counts
from ziggurat.engine.shown import RED, Bars, Names, Photo

PACKAGES = ("ziggurat", "classification", "detection", "segmentation")
SQUARE = [[4, 4, 20, 4, 20, 20, 4, 20]]


# Data with one flaw each: functions of an empty folder that give the findings.


def coco(edit, classes=("box", "disc"), min_size=0, scale=None):
    def found(root):
        dense_data.write_coco(root)
        file = root / "annotations/instances_train2017.json"
        content = json.loads(file.read_text())
        edit(content, root / "train2017")
        file.write_text(json.dumps(content))
        steps = [dict(type="LoadAnnotations", with_mask=True), *([dict(type="Resize", scale=scale)] if scale else [])]
        dataset = dict(data_root=str(root), ann_file=str(file), data_prefix=dict(img="train2017"), pipeline=steps)
        dataset["filter_cfg"] = dict(min_size=min_size)
        return coco_findings(ConfigDict(dataset), "train", list(classes), thorough=True)

    return found


def boxes(*values, number=2, **more):
    """Gives boxes to the first objects of a file."""

    def edit(content, images):
        for one in content["annotations"][:number]:
            one.update(dict(bbox=list(values), segmentation=SQUARE), **more)

    return edit


def corners(content, images):
    for one in content["annotations"]:
        x, y, width, height = one["bbox"]
        one["bbox"] = [x, y, x + width, y + height]


def turned(content, images):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    image = Image.open(images / "0000.png")
    image.crop((0, 0, 64, 48)).save(images / "0000.png", exif=exif)
    content["images"][0].update(width=64, height=48)


def panoptic(edit):
    def found(root):
        dense_data.write_panoptic(root)
        file = root / "annotations/panoptic_train2017.json"
        content = json.loads(file.read_text())
        edit(content)
        file.write_text(json.dumps(content))
        prefix = dict(img="train2017", seg="annotations/panoptic_train2017")
        dataset = ConfigDict(data_root=str(root), ann_file=str(file), data_prefix=prefix)
        return PanopticFormat().findings(dataset, "train", thorough=True)

    return found


def masks(change, split="train"):
    def found(root):
        dense_data.write_masks(root)
        folder = root / "annotations/training"
        for path in sorted(folder.iterdir()):
            change(path)
        prefix = dict(img_path="images/training", seg_map_path="annotations/training")
        dataset = ConfigDict(data_root=str(root), data_prefix=prefix)
        names = ["box", "disc", "ground"]
        return mask_findings(dataset, split, names, (len(names), True, None))

    return found


def saved(function):
    """Changes the values of a mask."""
    return lambda path: Image.fromarray(function(np.array(Image.open(path)))).save(path)


def lossy(path):
    Image.open(path).save(path.with_suffix(".jpg"))
    path.unlink()


def photographs(change, decode=False):
    """A training image and one of the validation, whom ``change`` makes of the pixels of the first."""

    def found(root):
        train, val = root / "train/0.png", root / "val/0.png"
        for path in (train, val):
            path.parent.mkdir(parents=True)
        pixels = dense_data.scene(1)[0]
        Image.fromarray(pixels).save(train)
        change(pixels, val)
        return file_findings({"train": [train], "val": [val]}, decode)

    return found


def again(pixels, path):
    Image.fromarray(pixels).save(path)


def nearly(pixels, path):
    changed = pixels.copy()
    changed[0, 0] ^= 1
    Image.fromarray(changed).save(path)


def extra(pixels, path):
    Image.fromarray(255 - pixels).save(path)
    Image.fromarray(255 - pixels).save(path.with_name("more.png"))


def dark(root):
    root.mkdir()
    grey = np.asarray(Image.fromarray(dense_data.scene(1)[0]).convert("L")).astype(np.uint16)
    Image.fromarray(grey * 16).save(root / "0.png")
    return dark_images([root / "0.png"], Reading())


def classes(root):
    (root / "train/cat").mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(root / "train/cat/1.png")
    dataset = ConfigDict(type="ImageFolder", data_root=str(root), folder="train", classes=["cat", "dog"])
    return LabelledFormat().findings(dataset, "train")


def rare(root):
    names, counts = ["cat", "犬"], [400, 2]
    return counted("classification", "train", names, counts, [Bars("labels of each class in train", names, counts)])


DRAWN = {
    "annotation-id": coco(lambda c, _: [one.update(id=7) for one in c["annotations"][:2]]),
    "annotation-unused": coco(boxes(5, 5, 0, 9)),
    "area-absent": coco(lambda c, _: c["annotations"][0].update(area=None)),
    "box-beside-mask": coco(boxes(9, 4, 16, 16)),
    "box-beyond": coco(boxes(50, 4, 20, 16)),
    "box-corners": coco(corners),
    "box-empty": coco(boxes(5, 5, 0, 9)),
    "box-form": coco(boxes(30, 5, -14, 9)),
    "box-larger": coco(boxes(0, 0, 99, 9)),
    "box-outside": coco(boxes(70, 5, 9, 9)),
    "category-left-out": coco(lambda c, _: None, classes=("box",)),
    "category-unknown": coco(lambda c, _: c["annotations"][0].update(category_id=9)),
    "class-empty": classes,
    "class-lacking": lambda _: other_classes("val", ["a"], ["a", "b"]),
    "class-order": lambda _: other_classes("val", ["a", "c", "b"], ["a", "b", "c"]),
    "class-rare": rare,
    "class-unknown": coco(lambda c, _: None, classes=("box", "cat")),
    "crowd-form": coco(lambda c, _: c["annotations"][0].update(iscrowd=3)),
    "image-dark": dark,
    "image-empty": coco(lambda c, _: c["annotations"].__delitem__(slice(0, 2))),
    "image-extra": photographs(extra),
    "image-near": photographs(nearly, decode=True),
    "image-shared": photographs(again),
    "image-size": coco(lambda c, _: c["images"][0].update(width=32)),
    "image-unannotated": panoptic(lambda c: c["annotations"].pop(0)),
    "images-id": coco(lambda c, _: c["images"][1].update(id=c["images"][0]["id"])),
    "images-small": coco(lambda c, _: None, min_size=99),
    "mask-absent": coco(lambda c, _: c["annotations"][0].pop("segmentation")),
    "mask-alone": masks(lambda path: Image.open(path).save(path.with_name("alone.png"))),
    "mask-form": coco(lambda c, _: c["annotations"][0].update(segmentation=[[1, 1, 30, 9]])),
    "mask-lossy": masks(lossy),
    "mask-size": masks(lambda path: Image.open(path).resize((32, 48), 0).save(path)),
    "mask-unlabelled": masks(saved(lambda mask: mask * 0 + 255), split="val"),
    "mask-values": masks(saved(lambda mask: np.where(mask == 1, 77, mask))),
    "object-repeated": coco(lambda c, _: c["annotations"].append(c["annotations"][0] | dict(id=99))),
    "object-tiny": coco(boxes(9, 9, 2, 2, number=8), scale=(64, 64)),
    "one-class": masks(saved(lambda mask: mask * 0 + 1)),
    "polygon-crossing": coco(boxes(4, 4, 16, 16, segmentation=[[4, 4, 20, 20, 20, 4, 4, 20]])),
}


def ids_in_code():
    """The ids of findings: first arguments of the functions and classes whose first parameter is ``id``."""
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    texts = [path.read_text() for path in files if path.name != "doctor.py"]  # whose findings are about no data
    about = ("ziggurat.engine.findings import", "detection.coco_entries import", "class Finding", "class Problem")
    trees = [ast.parse(text) for text in texts if any(word in text for word in about)]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    makers = {"Finding", "Problem"} | {one.name for one in functions if [a.arg for a in one.args.args[:1]] == ["id"]}
    assert {"found_in", "caught", "problem"} <= makers
    first = [one.args[0] for one in nodes if isinstance(one, ast.Call) and named(one) in makers and one.args]
    assert all(isinstance(one, ast.Constant | ast.Name | ast.Attribute) for one in first), "an id is one word"
    return {one.value for one in first if isinstance(one, ast.Constant)}


def named(call):
    return getattr(call.func, "id", None)


def test_each_finding_has_a_picture_or_says_why_it_has_none():
    ids = ids_in_code()
    assert len(ids) > 50
    assert ids - DRAWN.keys() - UNSEEN.keys() == set(), "of these nobody said what is to be seen"
    assert DRAWN.keys() | UNSEEN.keys() <= ids and not DRAWN.keys() & UNSEEN.keys()


@pytest.mark.parametrize("id", DRAWN)
def test_a_finding_is_drawn(id, tmp_path):
    found = next(one for one in DRAWN[id](tmp_path / "data") if one.id == id)
    (tmp_path / "out").mkdir()
    few = found._replace(views=found.views[:1], places=found.places[:1])
    assert draw_findings([few], tmp_path / "out") == (1, [])
    (path,) = (tmp_path / "out").iterdir()
    assert path.name == f"{id}_{found.split or 'all'}_1.png"
    with Image.open(path) as image:
        assert image.width > 500 and image.height > 120 and len(image.getcolors(1 << 24)) > 8


def red_in(picture):
    """The box x1, y1, x2, y2 around the red pixels."""
    rows, columns = np.nonzero((np.asarray(picture) == RED).all(axis=2))
    return columns.min(), rows.min(), columns.max(), rows.max()


@pytest.mark.parametrize(("size", "factor"), [((64, 32), 6), ((2000, 1000), None)])
def test_a_box_lies_where_its_numbers_say(size, factor, tmp_path):
    """Small images are enlarged, large ones reduced, and a box beyond the image is on the grey margin."""
    path = tmp_path / "a.png"
    Image.new("RGB", size).save(path)
    width, height = size
    box = (width / 4, height / 4, width, height / 4)
    panel = Photo(path, [box]).panel(Reading(), 1000)
    black = np.argwhere((np.asarray(panel.image) == 0).all(axis=2))
    (top, left), (_, right) = black.min(axis=0), black.max(axis=0) + 1
    scale = (right - left) / width
    assert max(panel.image.size) <= 1000 and scale == pytest.approx(factor or scale)
    expected = np.array([left, top] * 2) + np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]]) * scale
    np.testing.assert_allclose(red_in(panel.image), expected, atol=1.5)
    assert "width 64" in panel.lines[0].text or width > 64


def test_a_box_that_is_far_away_makes_no_huge_picture(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    panel = Photo(tmp_path / "a.png", [(1e9, -1e9, 1e12, 3)]).panel(Reading(), 1000)
    assert max(panel.image.size) <= 1000 and "x 1e+09" in panel.lines[0].text


def test_a_photograph_is_shown_turned_and_not_turned(tmp_path):
    (found,) = [one for one in coco(turned)(tmp_path / "data") if one.id == "image-size"]
    upright, stored = (one.panel(Reading(), 800) for one in found.views[0])
    assert "as read" in upright.title and "48x64" in upright.title
    assert "not turned" in stored.title and "64x48" in stored.title
    assert upright.image.width < upright.image.height and stored.image.width > stored.image.height


def test_pixels_of_no_class_are_red(tmp_path):
    findings = masks(saved(lambda mask: np.where(mask == 1, 77, mask)))(tmp_path / "data")
    (found,) = [one for one in findings if one.id == "mask-values"]
    marked, mask = (one.panel(Reading(), 800) for one in found.views[0])
    values = np.asarray(Image.open(tmp_path / "data/annotations/training/0.png"))
    small = marked.image.resize(values.shape[::-1], Image.Resampling.NEAREST)
    np.testing.assert_array_equal((np.asarray(small) == RED).all(axis=2), values == 77)
    assert any(line.text == f"value 77: {(values == 77).mean():.1%}" for line in mask.lines)


def test_a_mask_of_colours_shows_its_colours(tmp_path):
    def coloured(mask):
        return np.where(mask[..., None] == 1, [255, 0, 0], [0, 128, 0]).astype(np.uint8)

    findings = masks(saved(coloured))(tmp_path / "data")
    (found,) = [one for one in findings if one.id == "mask-values"]
    (tmp_path / "out").mkdir()
    assert draw_findings([found], tmp_path / "out").pictures == 4
    image, mask = (one.panel(Reading(), 800) for one in found.views[0])
    lines = mask.lines
    assert image.title.startswith("image, ") and image.image.size == mask.image.size
    assert [line.colour for line in lines] == [(0, 128, 0), (255, 0, 0)]


def test_findings_of_one_name_do_not_replace_each_other_and_what_is_lost_is_said(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    (tmp_path / "bad.png").write_bytes(b"x")
    there, lost = Place(tmp_path / "a.png"), Place(tmp_path / "bad.png")
    findings = [Finding("image-extra", "note", "a message", places=(place,), split="val") for place in (there, there)]
    findings += [Finding("image-empty", "note", "a message", places=(lost,)), Finding("data", "unusable", "a message")]
    (tmp_path / "out").mkdir()
    drawn = draw_findings(findings, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "image-extra_val_1.png",
        "image-extra_val_2.png",
    ]
    assert drawn == (2, ["image-empty: its files cannot be read", "data: the data cannot be read"])


def test_classes_that_a_finding_is_about_come_first_in_charts_and_lists(monkeypatch):
    names = [f"class {i}" for i in range(200)]
    titles = []
    monkeypatch.setattr(
        "ziggurat.engine.shown.write", lambda draw, place, text, size, fill: titles.append((text, fill))
    )
    panel = Names("classes of val", names, {"class 120"}).panel(Reading(), 800)
    assert panel.title == "classes of val: 200, 118 to 157 shown"
    assert titles[2] == ("120  class 120", RED) and len(titles) == 40
    for marked in ((), {"class 0"}):  # the rarest one, which has no bar otherwise
        chart = np.asarray(draw_counts(names, np.arange(200), "objects", marked))
        assert (chart == (192, 40, 31)).all(axis=2).any() == bool(marked)

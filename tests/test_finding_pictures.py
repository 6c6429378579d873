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
from engine.dataset_check import counted, other_classes
from engine.deep_images import dark_images
from engine.file_findings import file_findings
from engine.finding_pictures import draw_findings
from engine.findings import UNSEEN
from engine.shown import Bars
from segmentation.mask_findings import mask_findings

PACKAGES = ("engine", "classification", "detection", "segmentation")
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
    trees = {path: ast.parse(path.read_text()) for path in files}
    functions = [one for tree in trees.values() for one in ast.walk(tree) if isinstance(one, ast.FunctionDef)]
    makers = {"Finding", "Problem"} | {one.name for one in functions if [a.arg for a in one.args.args[:1]] == ["id"]}
    assert {"found_in", "caught", "problem"} <= makers
    ids = {}
    for path, tree in trees.items():
        if not any(word in path.read_text() for word in ("engine.findings", "detection.coco_entries", "class Finding")):
            continue  # another function of that name
        for one in ast.walk(tree):
            name = isinstance(one, ast.Call) and getattr(one.func, "id", None)
            if name in makers and one.args:
                assert isinstance(one.args[0], ast.Constant | ast.Name | ast.Attribute), "an id is a word of its own"
                if isinstance(one.args[0], ast.Constant):
                    ids[one.args[0].value] = path
    return ids


def test_each_finding_has_a_picture_or_says_why_it_has_none():
    ids = ids_in_code()
    assert len(ids) > 50
    assert ids.keys() - DRAWN.keys() - UNSEEN.keys() == set(), "of these nobody said what is to be seen"
    assert DRAWN.keys() | UNSEEN.keys() <= ids.keys() and not DRAWN.keys() & UNSEEN.keys()


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

"""Annotations in every format become one form, with the right numbers and the place that each came from.

The numbers are worked out by hand, and masks are counted by pycocotools or pixel by pixel.
"""

import json

import numpy as np
import own_files
import pytest
from own_files import CAT, DOG, NAMES, SIZES, coco, coco_content, outline, picture, runs, text, voc_xml, yolo
from pycocotools import mask as coco_mask

from backbones import UserError
from backbones.images import ORIENTATION
from ziggurat.engine.own_data import FlawedData, prepare
from ziggurat.engine.own_data.content import line_of


def read(root, **options):
    """What ``prepare`` gives, and the content of each split."""
    own = prepare(root, cache=root.parent / "cache", **options)
    return own, {split: json.loads(file.read_text()) for split, file in own.files.items()}


def rows(content):
    """(image, class, box, area, crowd) of each object."""
    images = {one["id"]: one["file_name"] for one in content["images"]}
    names = {one["id"]: one["name"] for one in content["categories"]}
    return [
        (images[one["image_id"]], names[one["category_id"]], one["bbox"], one["area"], one["iscrowd"])
        for one in content["annotations"]
    ]


def error_of(root, **options):
    with pytest.raises(UserError) as caught:
        prepare(root, cache=root.parent / "cache", **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def notes_of(own):
    return {note["what"]: note["count"] for note in own.notes}


@pytest.mark.parametrize("name", own_files.WRITERS)
def test_each_format_is_found_and_becomes_one_form(name, tmp_path):
    root = tmp_path / "data"
    own_files.WRITERS[name](root)
    own, found = read(root)
    assert own.format == name and set(found) == {"train", "val"}
    if name != "cvat":  # its file lists the dog first, and shows a further one
        assert own.classes == NAMES
    for split, content in found.items():
        wanted = {"a": ("cat", CAT, 200), "b": ("dog", DOG, 100)}
        if name == "voc":
            wanted = {key: wanted[key] for key in {"train": "a", "val": "b"}[split]}
        got = {row[0].split("/")[-1][0]: row for row in reversed(rows(content))}
        assert {key: row[1:4] for key, row in got.items()} == wanted
        assert all(row[4] == 0 for row in got.values())
        for image in content["images"]:
            assert (root / image["file_name"]).is_file()
            assert (image["width"], image["height"]) == SIZES[image["file_name"].split("/")[-1][0]]
        for key in ("images", "annotations", "categories"):
            assert [one["id"] for one in content[key]] == list(range(1, len(content[key]) + 1))
    assert read(root, data_format=name)[0].files == own.files


def test_every_annotation_names_its_place(tmp_path):
    places = dict(
        coco="annotations/instances_train.json:annotations[0]",
        yolo="labels/train/a.txt:1",
        voc="Annotations/a.xml:3",
        labelme="train/a.json, shapes[0]",
        cvat="train/annotations.xml:6",
        boxes_csv="train.csv:2",
    )
    for name, place in places.items():
        own_files.WRITERS[name](tmp_path / name)
        assert read(tmp_path / name)[1]["train"]["annotations"][0]["source"] == place


# COCO


def test_coco_ids_are_made_anew(tmp_path):
    """w05, w21, w22: ids from 0, with gaps, and texts; images and annotations may write one id in two ways."""
    content = coco_content()
    for i, one in enumerate(content["images"]):
        one["id"] = 40 * i
    for i, one in enumerate(content["annotations"]):
        one.update(id=f"{i:08x}-uuid" if i else 0, image_id=str(40 * i), category_id=7 * i)
    for i, one in enumerate(content["categories"]):
        one["id"] = 7 * i
    _, found = read(coco(tmp_path / "data", content))
    assert [one["id"] for one in found["all" if "all" in found else "train"]["annotations"]] == [1, 2]
    (content,) = found.values()
    assert rows(content) == [("train/a.jpg", "cat", CAT, 200, 0), ("train/b.jpg", "dog", DOG, 100, 0)]
    assert [one["original_id"] for one in content["images"]] == [0, 40]


def test_coco_entries_are_completed_and_counted(tmp_path):
    """w19: no iscrowd, no area; also no size, a byte order mark, and a name of its own beside the images."""
    content = coco_content(area=None, iscrowd=None)
    for one in content["images"]:
        del one["width"], one["height"]
    for split in ("train", "valid"):
        for name in "ab":
            picture(tmp_path / "data" / split / f"{name}.jpg")
        file = tmp_path / "data" / split / "_annotations.coco.json"
        file.write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())
    own, found = read(tmp_path / "data")
    assert rows(found["val"]) == [("valid/a.jpg", "cat", CAT, 200, 0), ("valid/b.jpg", "dog", DOG, 100, 0)]
    assert {(one["width"], one["height"]) for one in found["train"]["images"]} == set(SIZES.values())
    assert notes_of(own) == {
        "annotations without iscrowd, taken as 0": 4,
        "areas computed from masks or boxes": 4,
        "images whose width and height were read from their files": 4,
    }
    assert line_of(own.notes[1]).startswith(
        "4 annotations without iscrowd, taken as 0: train/_annotations.coco.json:ann"
    )


TRIANGLE = [4.0, 6.0, 14.0, 6.0, 4.0, 26.0]  # half of the cat's box


@pytest.mark.parametrize(
    ("given", "wanted", "note"),
    [
        ([TRIANGLE], [TRIANGLE], None),
        (TRIANGLE, [TRIANGLE], "flat lists of numbers taken as one polygon"),
        ([[4.0, 6.0], [14.0, 6.0], [4.0, 26.0]], [TRIANGLE], "lists of points taken as polygons"),
        ([[[4.0, 6.0], [14.0, 6.0], [4.0, 26.0]]], [TRIANGLE], "lists of points taken as polygons"),
        ([[4, 6, 14, 26]], [outline(CAT)], "two corners of the box taken as a rectangle"),
        ([[14, 26], [4, 6]], [outline(CAT)], "two corners of the box taken as a rectangle"),
        ([4, 6, 14, 26], [outline(CAT)], "two corners of the box taken as a rectangle"),
        ([[], TRIANGLE], [TRIANGLE], "empty polygons left out"),
        ([[]], None, "empty polygons left out"),
        ([], None, None),
        ([runs(CAT, SIZES["a"])], runs(CAT, SIZES["a"]), "run lengths taken out of a list"),
        (runs(CAT, SIZES["a"]), runs(CAT, SIZES["a"]), None),
        ([[1, 1, 9, 9]], [[1, 1, 9, 9]], None),  # not the box: whatever it means, the checks name it
    ],
)
def test_forms_of_segmentations(given, wanted, note, tmp_path):
    """w20."""
    content = coco_content()
    content["annotations"][0]["segmentation"] = given
    own, found = read(coco(tmp_path / "data", content))
    assert found["train"]["annotations"][0].get("segmentation") == wanted
    assert [note["what"] for note in own.notes] == ([note] if note else [])


def test_run_lengths_keep_holes_and_single_pixels(tmp_path):
    mask = np.zeros((30, 40), np.uint8)
    mask[5:20, 5:30], mask[8:12, 8:12], mask[25, 33] = 1, 0, 1
    code = coco_mask.encode(np.asfortranarray(mask))
    given = dict(size=[30, 40], counts=code["counts"].decode())
    whole = coco_content(segmentation=given, area=None, bbox=None)
    whole["annotations"][1:] = []
    _, found = read(coco(tmp_path / "data", whole))
    (one,) = found["train"]["annotations"]
    assert one["segmentation"] == given and one["area"] == mask.sum()
    assert one["bbox"] == [5, 5, 29, 21]  # columns 5 to 33, rows 5 to 25
    parts = [runs(CAT, SIZES["a"]), runs([8, 10, 20, 4], SIZES["a"])]
    whole["annotations"][0]["segmentation"] = parts
    coco(tmp_path / "data", whole)
    (one,) = read(tmp_path / "data")[1]["train"]["annotations"]
    union = np.zeros((30, 40), bool)
    union[6:26, 4:14], union[10:14, 8:28] = True, True
    assert np.array_equal(coco_mask.decode(one["segmentation"]), union) and one["area"] == union.sum()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["annotations"][1].update(image_id=9), "annotations[1]: image_id is 9, and no image has this id"),
        (
            lambda c: c["annotations"][1].update(category_id=9),
            "annotations[1]: category_id is 9; allowed: 1, 2, the ids",
        ),
        (
            lambda c: c["annotations"][1].update(bbox=[1, 2, "3", 4]),
            "bbox of annotations 1, counted from 0, is [1, 2, ",
        ),
        (lambda c: c["annotations"][1].update(segmentation="x"), "annotations[1]: segmentation is 'x'; allowed: poly"),
        (lambda c: c["annotations"][1].update(bbox=None, segmentation=None), "annotations[1]: no bbox and no segm"),
        (
            lambda c: c["annotations"][1].update(segmentation=dict(size=[50, 20], counts="zz")),
            "run lengths that are not",
        ),
        (
            lambda c: c["annotations"][1].update(iscrowd="no"),
            "iscrowd of annotations 1, counted from 0, is 'no'; allowed",
        ),
        (lambda c: c["images"][1].update(id=1), "several images have the id 1"),
        (lambda c: c["images"][1].update(file_name="../../x.jpg"), "file_name is '../../x.jpg'; allowed: paths inside"),
        (lambda c: c["images"][1].update(width="20"), "width of images 1, counted from 0, is '20'; allowed: a whole"),
        (lambda c: c["categories"][1].update(name="cat"), "several classes have the name cat"),
        (lambda c: c["categories"].clear(), "the list categories is empty"),
        (lambda c: c.update(annotations=7), "annotations is 7; allowed: a list"),
    ],
)
def test_flawed_coco_is_named(change, words, tmp_path):
    """w22."""
    content = coco_content()
    change(content)
    message = error_of(coco(tmp_path / "data", content), data_format="coco")
    assert str(tmp_path / "data/annotations/instances_train.json") in message and words in message


def test_image_names_of_other_machines(tmp_path):
    content = coco_content()
    content["images"][0]["file_name"] = "C:\\Users\\me\\a.jpg"
    content["images"][1]["file_name"] = "/home/me/pictures/b.jpg"
    assert [row[0] for row in rows(read(coco(tmp_path / "data", content))[1]["train"])] == [
        "train/a.jpg",
        "train/b.jpg",
    ]


def test_images_of_one_name_in_two_splits(tmp_path):
    root = coco(coco(tmp_path / "data"), split="val")
    _, found = read(root)
    assert [row[0] for row in rows(found["val"])] == ["val/a.jpg", "val/b.jpg"]
    content = coco_content()
    (root / "more").mkdir()
    (root / "val/a.jpg").rename(root / "more/a.jpg")
    (root / "train").rename(root / "other")
    text(root / "annotations/instances_train.json", json.dumps(content))
    assert "several images have the name a.jpg: more/a.jpg, other/a.jpg" in error_of(root)


def test_a_category_that_only_stands_above_others_is_left_out(tmp_path):
    content = coco_content()
    for one in content["categories"]:
        one["supercategory"] = "animals"
    content["categories"].insert(0, dict(id=0, name="animals", supercategory="none"))
    own, _ = read(coco(tmp_path / "data", content))
    assert own.classes == NAMES and own.notes[0]["first"] == ["'animals'"]
    content["annotations"][0]["category_id"] = 0
    assert read(coco(tmp_path / "data", content))[0].classes == ("animals", *NAMES)


def test_one_order_of_classes_for_all_splits(tmp_path):
    """w04: the validation file lists fewer categories, in another order, with other ids."""
    content = coco_content()
    content["categories"] = [dict(id=1, name="bird"), dict(id=2, name="dog")]
    content["annotations"][0]["category_id"] = 2
    own, found = read(coco(coco(tmp_path / "data"), content, "val"))
    assert own.classes == ("cat", "dog", "bird")
    assert found["train"]["categories"] == found["val"]["categories"]
    assert [row[1] for row in rows(found["val"])] == ["dog", "dog"]


# YOLO


def test_yolo_lines_boxes_polygons_and_confidences(tmp_path):
    root = yolo(tmp_path / "data")
    text(root / "labels/train/a.txt", "0 0.5 0.5 0.2 0.4 0.93", "", "1 0.25 0.5 0.5 0.5 0.5 1 0.7", "1 1 1 0.1 0.1")
    picture(root / "images/train/c.jpg", (10, 10))
    text(root / "labels/train/d.txt", "0 0.5 0.5 1 1")
    own, found = read(root)
    assert rows(found["train"])[:3] == [
        ("images/train/a.jpg", "cat", [16, 9, 8, 12], 96, 0),
        ("images/train/a.jpg", "dog", [10, 15, 10, 15], 75, 0),  # the points 10,15 20,15 20,30
        ("images/train/a.jpg", "dog", [38, 28.5, 4, 3], 12, 0),  # the checks say that it leaves the image
    ]
    masks = [one.get("segmentation") for one in found["train"]["annotations"]]
    assert masks[:3] == [None, [[10, 15, 20, 15, 20, 30]], None]
    assert [one["source"] for one in found["train"]["annotations"]][:3] == [
        f"labels/train/a.txt:{i}" for i in (1, 3, 4)
    ]
    assert len(found["train"]["images"]) == 3  # one has no label file, so no object
    assert notes_of(own) == {"confidences left out": 2, "label files left out, which have no image": 1}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("2 0.5 0.5 0.1 0.1", "a.txt:2: the class is 2; allowed: 0 to 1, since there are 2 names"),
        ("0.5 0.5 0.5 0.1 0.1", "a.txt:2: the class is 0.5; allowed: 0, 1, 2"),
        ("cat 0.5 0.5 0.1 0.1", "a.txt:2: the class is 'cat'; allowed: a number"),
        ("0 320 240 50 60", "a.txt:2: 320; allowed: shares of the image's width and height, from 0 to 1"),
        ("0 0.5 nan 0.1 0.1", "a.txt:2: a value is 'nan'; allowed: a number"),
        ("0 0.5 0.5 0.1", "a.txt:2: 4 values; allowed: the class and x, y, width, height of a box"),
        ("0 0.5,0.5,0.1,0.1", "a.txt:2: 2 values; allowed"),
    ],
)
def test_flawed_yolo_lines_are_named(line, words, tmp_path):
    root = yolo(tmp_path / "data")
    text(root / "labels/train/a.txt", "0 0.5 0.5 0.1 0.1", line)
    assert words in error_of(root)


LIST = "names:\n  - cat\n  - dog"


@pytest.mark.parametrize(
    "config",
    [
        "train: images/train\nval: images/val\nnames: {0: cat, 1: dog}",
        "train: ./images/train/\nval: ../images/val\nnc: 2\n" + LIST,  # as Roboflow writes it
        "path: .\ntrain: [images/train]\nval: [images/val]\ntest: images/test\n" + LIST,
        "path: ../data\ntrain: train.txt\nval: val.txt\n" + LIST,
        "path: /content/datasets/mine\ntrain: images/train\nvalid: images/val\nval: images/val\n" + LIST,
        "path: ROOT\ntrain: ROOT/images/train\nval: images/val\n" + LIST,
    ],
)
def test_ways_to_write_data_yaml(config, tmp_path):
    root = yolo(tmp_path / "data")
    text(root / "data.yaml", config.replace("ROOT", str(root)))
    for split in ("train", "val"):
        text(root / f"{split}.txt", f"./images/{split}/a.jpg", f"images/{split}/b.jpg")
    own, found = read(root)
    assert own.classes == NAMES and set(found) == {"train", "val"}
    assert [row[0] for row in rows(found["train"])] == ["images/train/a.jpg", "images/train/b.jpg"]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("train: images/train\nval: images/valid\nnames: [cat, dog]", "val is 'images/valid', and no images are there"),
        (
            "train: images/train\nval: /etc\nnames: [cat, dog]",
            "val is '/etc', and no images are there; allowed: a folder",
        ),
        ("train: images/train\nval: images/val\nnames: 7", "names is 7; allowed: a list of names, or a dict"),
        (
            "train: images/train\nval: images/val\nnames: {0: cat, 2: dog}",
            "names has the numbers 0, 2; allowed: 0 to 1",
        ),
        ("train: images/train\nval: images/val\nnc: 3\nnames: [cat, dog]", "nc is 3, and there are 2 names"),
        ("train: images/train\nval: images/val\nnames: [cat, cat]", "several classes have the name cat"),
        ("train: [images/train\nval: images/val\nnames: [cat]", "data.yaml, line 2: broken YAML"),
        ("train: !!python/object/apply:os.system [x]\nval: y\nnames: [cat]", "data.yaml, line 1: broken YAML"),
        ("train: {a: 1}\nval: images/val\nnames: [cat, dog]", "train is {'a': 1}; allowed: a folder, a .txt file"),
    ],
)
def test_flawed_data_yaml_is_named(config, words, tmp_path):
    root = yolo(tmp_path / "data")
    text(root / "data.yaml", config)
    message = error_of(root)
    assert str(root / "data.yaml") in message and words in message


@pytest.mark.parametrize("layout", ["{kind}/{split}", "{split}/{kind}", "{split}"])
def test_yolo_without_data_yaml(layout, tmp_path):
    root = tmp_path / "data"
    for split in ("train", "valid"):
        for name in "ab":
            picture(root / layout.format(kind="images", split=split) / f"{name}.jpg")
        text(root / layout.format(kind="labels", split=split) / "a.txt", "1 0.5 0.5 0.5 0.5")
    own, found = read(root)
    assert set(found) == {"train", "val"} and len(found["val"]["images"]) == 2
    assert own.classes == ("0", "1") and "classes named by their numbers" in own.notes[0]["what"]
    text(root / "classes.txt", "cat", "dog")
    assert [row[1] for row in rows(read(root)[1]["train"])] == ["dog"]


def test_shares_are_of_the_upright_image(tmp_path):
    root = yolo(tmp_path / "data")
    picture(root / "images/train/a.jpg", (30, 40), exif=exif_of(6))
    (image, _) = read(root)[1]["train"]["images"]
    assert (image["width"], image["height"]) == (40, 30)


def exif_of(orientation):
    from PIL import Image

    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def test_an_image_that_cannot_be_read_is_left_out_and_counted(tmp_path):
    root = yolo(tmp_path / "data")
    (root / "images/train/a.jpg").write_bytes(b"no image")
    own, found = read(root)
    assert [row[0] for row in rows(found["train"])] == ["images/train/b.jpg"]
    assert notes_of(own) == {"images left out, since they cannot be read": 1}


# Pascal VOC


def test_voc_counts_from_one_unless_a_box_begins_at_zero(tmp_path):
    assert rows(read(own_files.voc(tmp_path / "one"))[1]["train"]) == [("JPEGImages/a.jpg", "cat", CAT, 200, 0)]
    own, found = read(own_files.voc(tmp_path / "zero", first=0))
    assert rows(found["train"]) == [("JPEGImages/a.jpg", "cat", CAT, 200, 0)]
    assert own.notes[0]["first"] == ["Annotations/b.xml:3"]  # the dog's ymin is 0


def test_difficult_objects_are_crowds(tmp_path):
    root = own_files.voc(tmp_path / "data")
    text(root / "Annotations/a.xml", voc_xml("a", "cat", CAT, difficult=1, size=False))
    own, found = read(root)
    assert rows(found["train"]) == [("JPEGImages/a.jpg", "cat", CAT, 200, 1)]
    assert notes_of(own) == {
        "difficult objects, which count neither as missed nor as found": 1,
        "images whose width and height were read from their files": 1,
    }


BOMB = (
    '<!DOCTYPE a [<!ENTITY b "xxxxxxxxxx"><!ENTITY c "&b;&b;&b;&b;">]><annotation><filename>&c;</filename></annotation>'
)
OUTSIDE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotation><filename>&b;</filename></annotation>'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (BOMB, "a.xml, line 1: a document type declaration; allowed: XML without"),
        (OUTSIDE, "a.xml, line 1: a document type declaration; allowed: XML without"),
        ("<annotation>\n<object>", "a.xml, line 3: broken XML (no element found)"),
        ("<annotation>" + "<a>" * 200, "elements in elements; allowed: 100 in each other"),
        ("<other/>", "<other>; allowed: <annotation>"),
        (voc_xml("a", "", CAT), "a.xml:3: an object without a name"),
        (voc_xml("a", "cat", CAT).replace("bndbox", "box"), "a.xml:3: cat has no bndbox"),
        (voc_xml("a", "cat", CAT).replace(">14<", ">1 4<"), "a.xml:3: xmax is '1 4'; allowed: a number"),
    ],
)
def test_flawed_voc_is_named(content, words, tmp_path):
    root = own_files.voc(tmp_path / "data")
    text(root / "Annotations/a.xml", content)
    message = error_of(root, data_format="voc")
    assert str(root / "Annotations/a.xml") in message and words in message


def test_voc_beside_the_images(tmp_path):
    """As in Roboflow's export. An image without a file is left out, since nobody looked at it."""
    for split in ("train", "valid"):
        for name, label, box in (("a", "cat", CAT), ("b", "dog", DOG)):
            picture(tmp_path / "data" / split / f"{name}.jpg")
            text(tmp_path / "data" / split / f"{name}.xml", voc_xml(name, label, box))
    picture(tmp_path / "data/train/c.jpg", (9, 9))
    own, found = read(tmp_path / "data")
    assert own.format == "voc" and [row[0] for row in rows(found["val"])] == ["valid/a.jpg", "valid/b.jpg"]
    assert own.notes[0]["first"] == ["train/c.jpg"]


# LabelMe


def test_labelme_shapes(tmp_path):
    root = own_files.labelme(tmp_path / "data")
    mask = np.array([[1, 1, 0], [0, 1, 1]])
    own_files.labelme_file(
        root,
        "train",
        "b",
        [
            own_files.shape("dog", "mask", [[3, 20], [5, 21]], mask=own_files.png_of(mask)),
            own_files.shape("dog", "circle", [[10, 10], [10, 15]]),
            own_files.shape("cat", "line", [[1, 1], [9, 9]]),
            own_files.shape("cat", "polygon", [[0, 0], [4, 0], [4, 2]], group_id=3),
            own_files.shape("cat", "polygon", [[10, 0], [14, 0], [14, 2]], group_id=3),
            own_files.shape("cat", "mask", [[3, 20], [5, 21]], mask=own_files.png_of(mask), group_id=4),
            own_files.shape("cat", "rectangle", [[0, 40], [10, 50]], group_id=4),
        ],
    )
    own, found = read(root)
    first, circle, group, mixed = [one for one in found["train"]["annotations"] if one["image_id"] == 2]
    drawn = np.zeros((50, 20), bool)
    drawn[20:22, 3:6] = mask
    assert np.array_equal(coco_mask.decode(first["segmentation"]), drawn)
    assert first["area"] == 4 and first["bbox"] == [3, 20, 3, 2]
    assert circle["area"] == pytest.approx(np.pi * 25, rel=0.05) and circle["bbox"] == pytest.approx(
        [5, 5, 10, 10], abs=0.2
    )
    assert group["bbox"] == [0, 0, 14, 2] and group["area"] == 8 and len(group["segmentation"]) == 2
    drawn[40:50, :10] = True
    assert np.array_equal(coco_mask.decode(mixed["segmentation"]), drawn) and mixed["area"] == 104
    assert notes_of(own) == {"shapes of type line left out, which have no area": 1}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(label=None), "shapes[0]: label is None; allowed: the name of a class"),
        (dict(points=[[1, 1]]), "shapes[0]: points of a rectangle are [[1, 1]]; allowed: 2 or more [x, y]"),
        (dict(points=[[1, "1"], [2, 2]]), "shapes[0]: points of a rectangle are"),
        (dict(shape_type="mask", mask="zz"), "shapes[0]: mask cannot be read"),
        (dict(shape_type="mask", mask=own_files.png_of([[1]])), "shapes[0]: a mask of 1x1 pixels at 14,26 to 4,6"),
    ],
)
def test_flawed_shapes_are_named(change, words, tmp_path):
    root = own_files.labelme(tmp_path / "data")
    own_files.labelme_file(root, "train", "a", [own_files.shape("cat", "rectangle", [[14, 26], [4, 6]]) | change])
    message = error_of(root)
    assert str(root / "train/a.json") in message and words in message


# CVAT


def test_cvat_shapes(tmp_path):
    own, found = read(own_files.cvat(tmp_path / "data"))
    assert own.classes == ("dog", "cat")  # as the file lists them
    box, polygon, mask = found["train"]["annotations"]
    assert "segmentation" not in box and polygon["segmentation"] == [outline(DOG)]
    drawn = np.zeros((50, 20), bool)
    drawn[20:22, 3:6] = [[0, 1, 1], [0, 1, 1]]
    assert np.array_equal(coco_mask.decode(mask["segmentation"]), drawn)
    assert mask["bbox"] == [4, 20, 2, 2] and mask["area"] == 4
    assert notes_of(own) == {"shapes of type polyline left out, which have no area": 2}


def test_a_turned_box_of_cvat_is_a_polygon(tmp_path):
    content = own_files.CVAT.replace('z_order="0"', 'rotation="90.0"')
    (turned, *_) = read(own_files.cvat(tmp_path / "data", content))[1]["train"]["annotations"]
    assert turned["bbox"] == [-1, 11, 20, 10] and turned["area"] == 200  # about its centre 9, 16


def test_subsets_of_a_cvat_project_are_splits(tmp_path):
    root = tmp_path / "data"
    for name in "ab":
        picture(root / f"images/{name}.jpg")
    content = own_files.CVAT.replace('name="a.jpg"', 'name="a.jpg" subset="Train"')
    text(root / "annotations.xml", content.replace('name="b.jpg"', 'name="b.jpg" subset="Validation"'))
    own, found = read(root)
    assert {split: len(one["annotations"]) for split, one in found.items()} == {"train": 1, "val": 2}
    assert own.classes == ("dog", "cat")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('xtl="4.0"', 'xtl="four"', "annotations.xml:6: xtl is 'four'; allowed: a number"),
        (
            'points="10,0;20,0;20,10;10,10"',
            'points="10,0;20"',
            "annotations.xml:10: points is '10,0;20'; allowed: three",
        ),
        ('rle="1, 2, 1, 2"', 'rle="1, 2, 1"', "annotations.xml:11: a mask of 4 pixels in a box of 3x2 at 3,20"),
        ('left="3"', 'left="19"', "annotations.xml:11: a mask of 6 pixels in a box of 3x2 at 19,20; allowed: a box"),
        ('width="40"', 'width="0"', "annotations.xml:5: an image of 0x30 pixels"),
        (
            "</annotations>",
            "<track id='0'/></annotations>",
            "tracks of a video; allowed: an export as 'CVAT for images",
        ),
    ],
)
def test_flawed_cvat_is_named(old, new, words, tmp_path):
    message = error_of(own_files.cvat(tmp_path / "data", own_files.CVAT.replace(old, new)))
    assert "annotations.xml" in message and words in message


# CSV


def test_csv_of_shares_and_of_widths(tmp_path):
    root = own_files.boxes_csv(tmp_path / "data")
    text(root / "train.csv", "Image;Label;X;Y;W;H", "a.jpg;cat;0.1;0.2;0.25;0.5", "b.jpg;;;;;", "a;dog;0;0;1;1")
    text(root / "val.csv", "ImageID,XMin,XMax,YMin,YMax,LabelName", "b,0.5,1,0,0.2,dog")
    assert "all boxes have numbers up to 1; allowed: box_units=shares, or box_units=pixels" in error_of(root)
    _, found = read(root, box_units="shares")
    assert rows(found["train"]) == [
        ("images/a.jpg", "cat", [4, 6, 10, 15], 150, 0),
        ("images/a.jpg", "dog", [0, 0, 40, 30], 1200, 0),
    ]
    assert len(found["train"]["images"]) == 2 and rows(found["val"]) == [("images/b.jpg", "dog", DOG, 100, 0)]


def test_a_column_of_splits(tmp_path):
    root = tmp_path / "data"
    for name in "ab":
        picture(root / f"{name}.jpg")
    text(root / "boxes.csv", "path,x1,y1,x2,y2,class,split", "a.jpg,4,6,14,26,cat,train", "b.jpg,10,0,20,10,dog,valid")
    assert {split: rows(one)[0][1] for split, one in read(root)[1].items()} == {"train": "cat", "val": "dog"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a.jpg,40,30,cat,4,6,x,26", "train.csv:2: xmax is 'x'; allowed: a number"),
        ("a.jpg,40,30,,4,6,14,26", "train.csv:2: no class; allowed: a name"),
        ("a.jpg,40,30,cat,4,6,14", "train.csv:2: 7 cells; allowed: 8, as in the first line"),
    ],
)
def test_flawed_csv_lines_are_named(line, words, tmp_path):
    root = own_files.boxes_csv(tmp_path / "data")
    text(root / "train.csv", "filename,width,height,class,xmin,ymin,xmax,ymax", line)
    assert words in error_of(root)


# Several flaws at once

FLAWS = {  # format -> (a file, a text in it, what replaces it): each makes one entry unreadable
    "coco": ("annotations/instances_{}.json", '"image_id": 2', '"image_id": 9'),
    "yolo": ("labels/{}/b.txt", "1 0.5", "7 0.5"),
    "voc": ("Annotations/{}.xml", "<xmin>", "<xmin>x"),
    "labelme": ("{}/b.json", '"dog"', "null"),
    "cvat": ("{}/annotations.xml", "20,10;10,10", "20"),
    "boxes_csv": ("{}.csv", "dog,10", "dog,ten"),
}


@pytest.mark.parametrize("data_format", FLAWS)
def test_every_flawed_entry_is_counted(data_format, tmp_path):
    """A reader goes on after an entry that it cannot read, so that the check of the data names all of them."""
    root = own_files.WRITERS[data_format](tmp_path / "data")
    file, old, new = FLAWS[data_format]
    changed = 0
    for split in ("a", "b") if data_format == "voc" else ("train", "val"):
        path = root / file.format(split)
        content = path.read_text()
        changed += content.count(old) == 1
        path.write_text(content.replace(old, new))
    assert changed == 2
    with pytest.raises(FlawedData, match=r"2 entries are flawed, and tools/check_dataset\.py counts them") as caught:
        prepare(root, cache=tmp_path / "cache")
    assert len(caught.value.flaws) == 2 and all(str(root) in flaw for flaw in caught.value.flaws)
    assert str(caught.value).startswith(caught.value.flaws[0])


# Formats, splits and the cache


def test_no_format_and_several_are_one_line(tmp_path):
    root = tmp_path / "data"
    picture(root / "a.jpg")
    text(root / "notes.md", "text")
    message = error_of(root)
    assert (
        "no annotations of a known format; there are 1 .jpg, 1 .md; allowed: data_format=auto or one of coco" in message
    )
    yolo(coco(root))
    message = error_of(root)
    assert (
        "several formats: coco (annotations/instances_train.json); yolo (4 files, such as images/train/a.jpg)"
        in message
    )
    assert message.endswith("allowed: data_format=coco or yolo")
    assert read(root, data_format="yolo")[0].format == "yolo"
    assert "no annotations of the format cvat" in error_of(root, data_format="cvat")
    assert "unknown data_format 'yol'" in error_of(root, data_format="yol")
    assert f"no data folder {tmp_path / 'gone'}" in error_of(tmp_path / "gone")


def test_several_files_of_a_split_are_chosen_by_an_option(tmp_path):
    root = coco(tmp_path / "data")
    more = text(root / "annotations/instances_train_small.json", json.dumps(coco_content(area=7)))
    assert "several annotation files for train" in error_of(root)
    files = dict(train="annotations/instances_train_small.json", val="annotations/instances_train.json")
    _, found = read(root, data_files=files)
    assert [row[3] for row in rows(found["train"])] == [7, 7] and [row[3] for row in rows(found["val"])] == [200, 100]
    assert "data_files.val='gone.json' is not in" in error_of(root, data_files=dict(val="gone.json"))
    for files in (dict(training=str(more)), dict(train=7), dict(train=[str(more)]), 7):
        assert "allowed: dict(train=FILE" in error_of(root, data_files=files)


def test_the_cache_is_made_once_and_follows_the_files(tmp_path, monkeypatch):
    from ziggurat.engine.own_data import yolo as reader

    root = yolo(tmp_path / "data")
    calls, read_yolo = [], reader.read
    monkeypatch.setattr(reader, "read", lambda *args: calls.append(1) or read_yolo(*args))
    own, found = read(root)
    assert read(root)[0].files == own.files and len(calls) == 1
    text(root / "labels/train/a.txt", "1 0.5 0.5 0.5 0.5", "1 0.5 0.5 0.25 0.25")
    changed, content = read(root)
    assert len(calls) == 2 and changed.files["train"] != own.files["train"]
    assert len(content["train"]["annotations"]) == 3 and json.loads(own.files["train"].read_text()) == found["train"]
    changed.files["val"].unlink()
    assert read(root)[0].files == changed.files and len(calls) == 3
    assert not list((tmp_path / "data").rglob("*.json"))  # nothing goes into the user's folder


def test_processes_that_want_the_same_cache_wait_for_one(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    root = yolo(tmp_path / "data")
    with ThreadPoolExecutor(4) as pool:
        found = [one.files for one in pool.map(lambda _: prepare(root, cache=tmp_path / "cache"), range(4))]
    assert all(one == found[0] for one in found)
    left = sorted(path.name for path in found[0]["train"].parent.iterdir())
    assert len(left) == 4 and left[0] == ".reading.lock"  # the index, train and val


def test_a_failed_reading_leaves_no_cache(tmp_path):
    root = yolo(tmp_path / "data")
    text(root / "labels/val/a.txt", "7 0.5 0.5 0.5 0.5")
    error_of(root)
    assert [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()] == [".reading.lock"]


def test_hidden_files_and_pipes_are_no_data(tmp_path):
    import os

    root = yolo(tmp_path / "data")
    for name in ("._a.jpg", "@eaDir/a.jpg"):
        picture(root / "images/train" / name, (9, 9))
    os.mkfifo(root / "images/train/pipe.jpg")
    (root / "images/train/round").symlink_to(root / "images")
    assert len(read(root)[1]["train"]["images"]) == 2

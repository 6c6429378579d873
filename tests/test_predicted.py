"""The files of all predictions of a folder: what other programs read in them is what was predicted."""

import csv
import json
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from backbones import UserError
from ziggurat.engine.own_data.content import Notes
from ziggurat.engine.own_data.cvat import mask_of
from ziggurat.engine.own_data.listing import Listing
from ziggurat.engine.own_data.yolo import read as read_yolo
from ziggurat.engine.predicted.book import Book, runs_of
from ziggurat.engine.predicted.formats import FORMATS, write_summaries
from ziggurat.engine.predicted.label_studio import packed
from ziggurat.engine.results import ClassMap, Instances, Scores

CLASSES = ["ant & bee", "Käfer <1>", 'a "quoted", name']
SIZE = (30, 40)


def blob(*corners):
    """A mask of rectangles (top, left, bottom, right)."""
    mask = np.zeros(SIZE, bool)
    for top, left, bottom, right in corners:
        mask[top:bottom, left:right] = True
    return mask


MASKS = [blob((3, 4, 20, 15)), blob((0, 30, 30, 40), (10, 0, 12, 9))]


def coded(mask):
    code = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return dict(size=list(SIZE), counts=code["counts"].decode())


def rows_of(kind, folder, with_masks=True):
    head = [dict(image=str(folder / name), width=40, height=30) for name in ("a/x 1.jpg", "b/ü.png")]
    if kind is Scores:
        one = dict(labels=[1, 0, 2], categories=[CLASSES[1], CLASSES[0], CLASSES[2]], scores=[0.5, 0.3, 0.2])
    elif kind is ClassMap:
        one = dict(classes=[dict(index=i, name=CLASSES[i], fraction=0.5) for i in (2, 0)])
    else:
        labels = [2, 0]
        one = dict(labels=labels, categories=[CLASSES[i] for i in labels], scores=[0.9, 0.4])
        one |= dict(boxes=[[4.0, 3.0, 15.0, 20.0], [0.0, 0.0, 40.0, 30.0]])
        one |= dict(masks=[coded(mask) for mask in MASKS]) if with_masks else {}
    empty = dict(labels=[], categories=[], scores=[], boxes=[]) if kind is Instances else one
    return [head[0] | one | dict(file="x 1"), head[1] | empty | dict(file="ü")]


@pytest.fixture
def written(tmp_path):
    """Writes one form, and gives the folder, the rows and the remarks."""

    def write(word, kind, with_masks=True):
        rows = rows_of(kind, tmp_path / "photos", with_masks)
        if kind is ClassMap:
            (tmp_path / "masks").mkdir()
            for row in rows:
                indices = np.where(MASKS[0], 0, 2).astype(np.uint8)
                Image.fromarray(indices).save(tmp_path / "masks" / f"{row['file']}.png")
        book = Book(tmp_path, CLASSES, lambda frames=False: iter(rows))
        return tmp_path, rows, FORMATS[word].write(book, kind)

    return write


def pixels_of(code):
    return coco_mask.decode(code).astype(bool)


@pytest.mark.parametrize("with_masks", [True, False])
def test_coco_has_each_object(written, with_masks):
    out, rows, _ = written("coco", Instances, with_masks)
    coco = COCO(str(out / "predictions.coco.json"))
    assert [coco.cats[i + 1]["name"] for i in range(3)] == CLASSES
    assert [image["file_name"] for image in coco.imgs.values()] == ["a/x 1.jpg", "b/ü.png"]
    found = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
    assert [one["score"] for one in found] == rows[0]["scores"] and not coco.getAnnIds(imgIds=[2])
    assert [one["category_id"] - 1 for one in found] == rows[0]["labels"]
    assert found[0]["bbox"] == [4, 3, 11, 17] and found[0]["area"] == 11 * 17
    for one, mask in zip(found if with_masks else [], MASKS, strict=with_masks):
        assert (coco.annToMask(one).astype(bool) == mask).all() and one["area"] == mask.sum()


def test_coco_of_class_maps_divides_the_image(written):
    out, _, _ = written("coco", ClassMap)
    coco = COCO(str(out / "predictions.coco.json"))
    for image_id in (1, 2):
        found = coco.loadAnns(coco.getAnnIds(imgIds=[image_id]))
        masks = {one["category_id"] - 1: coco.annToMask(one).astype(bool) for one in found}
        assert (masks[0] == MASKS[0]).all() and (masks[2] == ~MASKS[0]).all()


def test_yolo_has_the_boxes(written):
    out, rows, notes = written("yolo", Instances, with_masks=False)
    assert yaml.safe_load((out / "data.yaml").read_text(encoding="utf-8"))["names"] == dict(enumerate(CLASSES))
    lines = [line.split() for line in (out / "labels/x 1.txt").read_text().splitlines()]
    for (label, x, y, width, height), box, given in zip(lines, rows[0]["boxes"], rows[0]["labels"], strict=True):
        x, width, y, height = (float(v) * side for v, side in ((x, 40), (width, 40), (y, 30), (height, 30)))
        np.testing.assert_allclose([x - width / 2, y - height / 2, x + width / 2, y + height / 2], box, atol=1e-3)
        assert int(label) == given
    assert (out / "labels/ü.txt").read_text() == "" and "score" in notes[0]


def test_yolo_outlines_cover_the_largest_part_and_say_what_is_lost(written):
    out, _, notes = written("yolo", Instances)
    assert any(note.startswith("1 masks of several parts") for note in notes)
    Image.new("RGB", SIZE[::-1]).save(out / "x 1.png")
    (out / "x 1.txt").write_text((out / "labels/x 1.txt").read_text())
    (out / "classes.txt").write_text("a\nb\nc\n")
    found = read_yolo(Listing(out), {"train": ["x 1.png"]}, {}, Notes())["train"].annotations
    for one, mask in zip(found, (MASKS[0], blob((0, 30, 30, 40))), strict=True):
        drawn = pixels_of(coco_mask.merge(coco_mask.frPyObjects(one["segmentation"], *SIZE)))
        assert (drawn & mask).sum() / (drawn | mask).sum() > 0.8  # the outline runs through the outer pixels' centres


def test_maps_of_instances_have_the_better_one_on_top(written):
    out, _, _ = written("masks", Instances)
    numbers = np.asarray(Image.open(out / "masks/x 1.png"))
    assert (numbers == np.where(MASKS[0], 1, np.where(MASKS[1], 2, 0))).all()
    assert not np.asarray(Image.open(out / "masks/ü.png")).any()


@pytest.mark.parametrize("kind", [Instances, ClassMap, Scores])
def test_cvat_has_each_shape(written, kind):
    out, _, _ = written("cvat", kind)
    root = ElementTree.parse(out / "predictions.cvat.xml").getroot()
    assert [node.text for node in root.findall("meta/task/labels/label/name")] == CLASSES
    first, second = root.findall("image")
    assert (first.get("name"), second.get("name"), first.get("width")) == ("a/x 1.jpg", "b/ü.png", "40")
    if kind is Scores:
        assert [tag.get("label") for tag in first.findall("tag")] == [CLASSES[1]]
        return
    expected = MASKS if kind is Instances else [~MASKS[0], MASKS[0]]
    for node, mask in zip(first.findall("mask"), expected, strict=True):
        assert (pixels_of(mask_of(node.attrib, "here", SIZE)[0]) == mask).all()
    labels = [CLASSES[2], CLASSES[0]]
    assert [node.get("label") for node in first.findall("mask")] == labels


def test_cvat_has_boxes(written):
    out, rows, _ = written("cvat", Instances, with_masks=False)
    boxes = ElementTree.parse(out / "predictions.cvat.xml").getroot().findall("image/box")
    found = [[float(box.get(key)) for key in ("xtl", "ytl", "xbr", "ybr")] for box in boxes]
    assert found == rows[0]["boxes"]


def unpacked(code):
    """The bytes of rle-pack, by a reader of single bits."""
    bits, place = "".join(f"{byte:08b}" for byte in code), 0

    def read(size):
        nonlocal place
        place += size
        return int(bits[place - size : place], 2)

    number, word, sizes = read(32), read(5) + 1, [read(4) + 1 for _ in range(4)]
    found = []
    while len(found) < number:
        is_run, length = read(1), 0
        length = read(sizes[read(2)]) + 1
        found += [read(word)] * length if is_run else [read(word) for _ in range(length)]
    return np.array(found, np.uint8)


@pytest.mark.parametrize("mask", [*MASKS, blob(), ~blob(), np.ones((1, 1), bool), np.ones((300, 400), bool)])
def test_label_studio_unpacks_the_mask(mask):
    pixels = unpacked(packed(mask)).reshape(*mask.shape, 4)
    assert (pixels == np.where(mask, 255, 0)[..., None]).all()


def test_label_studio_has_tasks_with_predictions(written):
    out, rows, _ = written("label-studio", Instances, with_masks=False)
    first, second = json.loads((out / "predictions.label-studio.json").read_text())
    assert first["data"]["image"].startswith("/data/local-files/?d=") and first["data"]["image"].endswith("a/x%201.jpg")
    result = first["predictions"][0]["result"]
    assert second["predictions"][0]["result"] == []
    for one, (x1, y1, x2, y2), name in zip(result, rows[0]["boxes"], rows[0]["categories"], strict=True):
        value = one["value"]
        corner = value["x"] * 0.4, value["y"] * 0.3, (value["x"] + value["width"]) * 0.4
        np.testing.assert_allclose([*corner, (value["y"] + value["height"]) * 0.3], [x1, y1, x2, y2])
        assert value["rectanglelabels"] == [name] and one["original_width"] == 40
    labels = ElementTree.parse(out / "predictions.label-studio.xml").getroot().findall("RectangleLabels/Label")
    assert [label.get("value") for label in labels] == CLASSES


@pytest.mark.parametrize(("kind", "key"), [(ClassMap, "brushlabels"), (Scores, "choices")])
def test_label_studio_has_areas_and_classes(written, kind, key):
    out, _, _ = written("label-studio", kind)
    result = json.loads((out / "predictions.label-studio.json").read_text())[0]["predictions"][0]["result"]
    names = [one["value"][key] for one in result]
    assert names == ([[CLASSES[2]], [CLASSES[0]]] if kind is ClassMap else [[CLASSES[1]]])
    if kind is ClassMap:
        masks = [unpacked(one["value"]["rle"]).reshape(*SIZE, 4)[..., 3] > 0 for one in result]
        assert (masks[1] == MASKS[0]).all() and (masks[0] == ~MASKS[0]).all()


def test_the_table_has_a_row_for_each_object_or_area(written):
    out, rows, _ = written("csv", Instances)
    with (out / "predictions.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert [one["class"] for one in found] == rows[0]["categories"]
    assert [[float(one[key]) for key in ("x1", "y1", "x2", "y2")] for one in found] == rows[0]["boxes"]


@pytest.mark.parametrize("seed", range(5))
def test_runs_put_together_are_the_values(seed):
    values = np.random.default_rng(seed).random(50) < 0.5
    runs = runs_of(values)
    assert (np.repeat(np.arange(len(runs)) % 2, runs) == values).all() and (runs[1:-1] > 0).all()


@pytest.mark.parametrize("kind", [Scores, Instances, ClassMap])
def test_every_form_takes_a_folder_without_images(tmp_path, kind):
    book = Book(tmp_path, CLASSES, lambda frames=False: iter([]))
    for form in FORMATS.values():
        if kind in form.results and form.write is not None:
            form.write(book, kind)
    if kind is not Scores:
        assert json.loads((tmp_path / "predictions.coco.json").read_text())["annotations"] == []


def test_the_page_names_every_form_and_its_files(request):
    page = (request.config.rootpath / "docs/predictions.md").read_text()
    rows = {line.split("|")[1].strip(" `"): line for line in page.splitlines() if line.startswith("| `")}
    for word, form in FORMATS.items():
        for file in form.files:
            assert file.format("<name>") in rows[word] or file.endswith(".xml"), (word, file)
        assert ("all tasks" in rows[word]) == (len(form.results) == 3)


@pytest.mark.parametrize("word", ["cvat", "label-studio"])
def test_xml_holds_any_name(tmp_path, word):
    """Control characters, halves of pairs and numbers that are no characters have no form in XML."""
    name = "a\x1bb\ufffec\udce9d\n<é>\U0001f600"
    row = dict(image=str(tmp_path / "x.jpg"), file="x", width=40, height=30)
    row |= dict(labels=[0], categories=[name], scores=[0.5])
    FORMATS[word].write(Book(tmp_path, [name], lambda frames=False: iter([row])), Scores)
    tree = ElementTree.parse(tmp_path / f"predictions.{word}.xml")
    texts = [one for node in tree.iter() for one in (node.text, *node.attrib.values())]
    assert "a?b?c?d\n<é>\U0001f600" in texts


def test_a_map_that_is_gone_is_named(tmp_path):
    book = Book(tmp_path, CLASSES, lambda frames=False: iter(rows_of(ClassMap, tmp_path)))
    with pytest.raises(UserError, match=r"masks/x 1\.png cannot be read \(No such file.*\); allowed: predict .*again"):
        FORMATS["coco"].write(book, ClassMap)


@pytest.mark.parametrize("kind", [Scores, Instances, ClassMap])
def test_a_line_of_others_is_named(tmp_path, kind):
    rows = rows_of(kind, tmp_path)
    write_summaries(Book(tmp_path, CLASSES, lambda frames=False: iter(rows)), kind, ["csv"])
    for key in ("width", "classes" if kind is ClassMap else "scores"):
        broken = [rows[0], {name: value for name, value in rows[1].items() if name != key}]
        with pytest.raises(
            UserError, match=rf"the line of .*ü\.png in predictions\.jsonl lacks {key}; allowed: another"
        ):
            write_summaries(Book(tmp_path, CLASSES, lambda frames=False, rows=broken: iter(rows)), kind, ["csv"])

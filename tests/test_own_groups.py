"""``val_group`` as the name of a column: all images of a group, such as a patient, go to one side of the split."""

import json
from collections import defaultdict

import pytest
from mmengine.config import Config
from own_files import picture, text

from backbones import UserError
from classification import TASK
from classification.data import CsvImages
from ziggurat.engine.own_data import FlawedData, prepare
from ziggurat.engine.own_data.split import SplitOptions, group_column

PATIENTS, EACH = 12, 4
IMAGES = {f"{i:03d}.png": f"P {i % PATIENTS}" for i in range(PATIENTS * EACH)}  # names that say nothing of the patient
CLASS = {name: ("cat", "dog")[i % 3 == 0] for i, name in enumerate(IMAGES)}


def rows(kind, groups):
    """The lines of a table. Each image has two boxes, or one line with its class."""
    if kind == "boxes":
        boxes = ("1,1,9,9", "20,20,30,30")
        lines = [f"{name},{CLASS.get(name, 'cat')},{box},{groups[name]}" for name in groups for box in boxes]
        return ["filename,class,xmin,ymin,xmax,ymax,Patient ID", *lines]
    return ["path,label,Patient ID", *(f"{name},{CLASS.get(name, 'cat')},{groups[name]}" for name in groups)]


def write(root, kind, groups=IMAGES, file="all.csv"):
    for name in groups:
        if not (root / name).exists():
            picture(root / name, (40, 40))
    text(root / file, *rows(kind, groups))
    return root


def sides(root, kind, group="patient id", share=0.25, seed=0):
    """split -> names of its images."""
    if kind == "boxes":
        own = prepare(root, split=SplitOptions(share, group, seed), cache=root.parent / "cache")
        return {
            split: {one["file_name"] for one in json.loads(file.read_text())["images"]}
            for split, file in own.files.items()
        }
    dataset = dict(type="ImageFolder")
    loaders = {f"{split}_dataloader": dict(dataset=dict(dataset, folder=split)) for split in ("train", "val")}
    own = dict(data_root=str(root), data_format="auto", data_cache=str(root.parent / "cache"))
    options = dict(val_share=share, val_group=group, val_seed=seed)
    cfg = Config(loaders | own | options | dict(model=dict(type="Classifier", num_classes=9)))
    TASK.complete(cfg)
    found = {}
    for split in ("train", "val"):
        data = CsvImages(**{key: value for key, value in cfg[f"{split}_dataloader"].dataset.items() if key != "type"})
        found[split] = {path.removeprefix(f"{data.data_root}/") for path, _ in data.samples}
    return found


def error_of(root, kind, **options):
    with pytest.raises(UserError) as caught:
        sides(root, kind, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


KINDS = pytest.mark.parametrize("kind", ["boxes", "classes"])


@KINDS
def test_all_images_of_a_group_go_to_one_side_by_class_and_seed(kind, tmp_path):
    root = write(tmp_path / "mine", kind)
    found = sides(root, kind)
    of_group = defaultdict(set)
    for split, names in found.items():
        for name in names:
            of_group[IMAGES[name]].add(split)
    assert len(of_group) == PATIENTS and all(len(splits) == 1 for splits in of_group.values())
    assert found["train"] | found["val"] == IMAGES.keys() and not found["train"] & found["val"]
    assert len(found["val"]) == PATIENTS * EACH // 4
    dogs = sum(CLASS[name] == "dog" for name in found["val"])
    assert abs(dogs - sum(value == "dog" for value in CLASS.values()) / 4) <= EACH / 2
    assert sides(root, kind, "Patient ID") == found  # capital letters do not matter
    assert any(sides(root, kind, seed=seed)["val"] != found["val"] for seed in (1, 2, 3))


@KINDS
def test_a_later_image_of_a_group_goes_with_its_group(kind, tmp_path):
    root = write(tmp_path / "mine", kind)
    before = sides(root, kind)
    patient = IMAGES[min(before["val"])]
    after = sides(write(root, kind, IMAGES | {"later.png": patient, "other.png": "P new"}), kind)
    assert after == dict(train=before["train"] | {"other.png"}, val=before["val"] | {"later.png"})


@KINDS
def test_a_text_with_special_characters_is_a_regular_expression(kind, tmp_path):
    found = sides(write(tmp_path / "mine", kind), kind, r"^(\d\d)")
    tens = [{name[:2] for name in names} for names in found.values()]
    assert not tens[0] & tens[1]


@KINDS
def test_an_unknown_column_is_an_error_that_names_the_columns(kind, tmp_path):
    root = write(tmp_path / "mine", kind)
    message = error_of(root, kind, group="patient")
    columns = ", ".join(rows(kind, {})[0].split(","))
    assert f"{root / 'all.csv'}: val_group='patient' is none of the columns {columns}; allowed: one of these" in message
    assert not list(tmp_path.glob("cache/*/val_images*"))


@KINDS
def test_a_line_without_a_group_is_an_error(kind, tmp_path):
    root = write(tmp_path / "mine", kind, IMAGES | {"005.png": " "})
    message = error_of(root, kind)
    line = rows(kind, IMAGES | {"005.png": " "})
    first = next(number for number, one in enumerate(line, 1) if one.startswith("005.png"))
    assert f"{root / 'all.csv'}:{first}: no Patient ID, which is val_group; allowed: the group of the image" in message


def test_an_image_of_two_groups_is_an_error(tmp_path):
    root = write(tmp_path / "mine", "boxes")
    lines = (root / "all.csv").read_text().splitlines()
    lines[2] = lines[2].replace("P 0", "P 1")
    text(root / "all.csv", *lines)
    with pytest.raises(FlawedData, match=r"all\.csv:3: the group 'P 1', and 'P 0' in another line of 000\.png"):
        sides(root, "boxes")


@KINDS
def test_tables_of_a_test_need_no_groups(kind, tmp_path):
    root = write(tmp_path / "mine", kind, file="train.csv")
    picture(root / "tested.png", (40, 40))
    text(root / "test.csv", *(line.rpartition(",")[0] for line in rows(kind, {"tested.png": ""})))
    found = sides(root, kind)
    assert len(found["val"]) == PATIENTS * EACH // 4 and "tested.png" not in found["train"] | found["val"]


@KINDS
def test_each_table_of_the_training_needs_the_column(kind, tmp_path):
    root = write(tmp_path / "mine", kind)
    picture(root / "more.png", (40, 40))
    text(root / "more.csv", *(line.rpartition(",")[0] for line in rows(kind, {"more.png": ""})))
    assert f"{root / 'more.csv'}: val_group='patient id' is none of the columns" in error_of(root, kind)
    whole = (root / "all.csv").read_text()
    (root / "all.csv").write_text(whole.replace("Patient ID", "Patient (ID)"))  # which may be a regular expression
    message = error_of(root, kind, group="Patient (ID)")
    assert "val_group='Patient (ID)': no group of more.png; allowed: the column in all tables" in message


def test_data_without_a_table_have_no_column(tmp_path):
    for name in ("cat", "dog"):
        for i in range(4):
            picture(tmp_path / f"mine/{name}/{i}.png", (40, 40))
    message = error_of(tmp_path / "mine", "classes", group="patient")
    assert f"val_group='patient' is the name of a column, and {tmp_path / 'mine'} has no table of images" in message


@pytest.mark.parametrize(
    ("group", "head", "place"),
    [
        ("b", ["a", " b "], 1),
        ("B", ["b", "B"], 1),  # the exact name comes first
        ("ß", ["a", "SS"], 1),
        ("a.b", ["x", "a.b"], 1),  # a column, though a special character is in it
        ("^(a)", ["a", "b"], None),
        ("", ["a", ""], None),
    ],
)
def test_a_column_comes_before_a_regular_expression(group, head, place):
    assert group_column(group, head, "t.csv") == place

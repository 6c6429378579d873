"""Masks and entries of COCO's files that would crash pycocotools, or keep it busy for minutes, are known before."""

import copy

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from detection.coco_entries import summary
from ziggurat.engine.coco_masks import are_runs, is_mask, unpacked
from ziggurat.engine.coco_schema import Flawed

IMAGE = {"id": 1, "file_name": "a/1.jpg", "width": 40, "height": 30}
OBJECT = {"id": 5, "image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}
CONTENT = {"images": [IMAGE], "annotations": [OBJECT], "categories": [{"id": 2, "name": "box"}]}


def runs_of(mask):
    """Run lengths by columns, from the first zeros on."""
    ends = np.flatnonzero(np.diff(np.r_[0, mask.flatten("F"), 2]))
    return np.diff(np.r_[0, ends]).tolist()


@pytest.mark.parametrize("share", [0.0, 0.002, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("size", [(30, 40), (700, 900)])
def test_compressed_run_lengths_are_unpacked(size, share):
    mask = (np.random.default_rng(0).random(size) < share).astype(np.uint8)
    code = coco_mask.encode(np.asfortranarray(mask))["counts"].decode()
    assert unpacked(code).tolist() == runs_of(mask)
    assert are_runs(code, mask.size) and not are_runs(code, mask.size + 1)


def test_run_lengths_that_break_off_or_go_too_far_are_refused():
    mask = np.zeros((30, 40), np.uint8)
    mask[5:20, 5:30] = 1
    code = coco_mask.encode(np.asfortranarray(mask))["counts"].decode()
    more = coco_mask.encode(np.asfortranarray(np.zeros((3000, 4000), np.uint8)))["counts"].decode()
    for wrong in (
        code[:-1],
        code + "o",
        code + more,
        more,
        "oooooooooo",
        "\x7f",
        " ",
        "",
        "é",
        None,
        7,
        [],
        [-1, 1201],
    ):
        assert not are_runs(wrong, mask.size), wrong
    assert not are_runs([600.0, 600.0], mask.size) and not are_runs([True, 1199], mask.size)


@pytest.mark.parametrize(
    "mask",
    [
        [[0, 0, 1e9, 0, 5, 5]],
        [[0, 0, float("nan"), 0, 5, 5]],
        [[0, 0, float("inf"), 0, 5, 5]],
        [[0, 0, True, 0, 5, 5]],
        [[0, 0, 10**30, 0, 5, 5]],
        {"size": 7, "counts": [1200]},
        {"size": [30.0, 40.0], "counts": [1200]},
        {"size": [30, 40]},
        "text",
        7,
    ],
)
def test_other_masks_are_refused(mask):
    assert not is_mask(mask, 40, 30)
    assert is_mask([[0, 0, 39, 0, 5.5, 29], [-3, 0, 45, 0, 5, 5]], 40, 30)


@pytest.mark.parametrize(
    ("what", "key", "value", "words"),
    [
        ("images", "id", [1], "id of images 0, counted from 0, is [1]; allowed: an integer or a text"),
        ("images", "file_name", 7, "file_name of images 0, counted from 0, is 7; allowed: the name of a file"),
        ("images", "file_name", "x" * 300, "allowed: the name of a file"),
        ("images", "width", "40", "allowed: a whole number of pixels"),
        ("images", "height", 10**30, "allowed: a whole number of pixels"),
        ("images", "height", float("nan"), "allowed: a whole number of pixels"),
        (
            "annotations",
            "category_id",
            None,
            "category_id of annotations 0, counted from 0, is None",
        ),
        ("annotations", "id", {}, "id of annotations 0"),
        ("categories", "name", 7, "name of categories 0, counted from 0, is 7; allowed: a text"),
        ("categories", "id", 2.5, "id of categories 0"),
    ],
)
def test_an_entry_of_another_form_is_named(what, key, value, words):
    content = copy.deepcopy(CONTENT)
    assert summary(content).problems == ()
    content[what][0][key] = value
    with pytest.raises(Flawed) as caught:
        summary(content)
    assert words in str(caught.value)


def test_entries_that_are_no_dicts_and_lists_that_are_none():
    with pytest.raises(Flawed, match="images 1, counted from 0, are no dicts, such as None"):
        summary(CONTENT | {"images": [IMAGE, None]})
    with pytest.raises(Flawed, match="annotations is 7; allowed: a list"):
        summary(CONTENT | {"annotations": 7})

"""Each kind of error is found and counted, and costs what pycocotools measures once it is mended by hand."""

import copy

import numpy as np
import pytest
from PIL import ImageChops

import detection  # noqa: F401
from detection.coco_eval import Rules, evaluate, twelve_numbers
from detection.coco_truth import found_of, truth_of
from detection.error_chart import draw_errors
from detection.errors import ERRORS, errors_of
from detection.report import error_rows

CLASSES = ("cat", "dog")
CAT, DOG = 0, 1
OBJECT = [20.0, 20, 60, 60]
NEAR = [20.0, 40, 60, 80]  # IoU 1/3 with the object
FAR = [100.0, 100, 140, 140]
# An image for each line: the class of its object at OBJECT, and predictions: box, class, error, and what mends it.
IMAGES = [
    (CAT, [(OBJECT, CAT, None, None)]),
    (CAT, [(OBJECT, CAT, None, None), (OBJECT, CAT, "duplicate", "drop")]),
    (DOG, [(OBJECT, DOG, None, None), (FAR, DOG, "background", "drop")]),
    (CAT, [(NEAR, CAT, "localisation", (OBJECT, CAT)), (FAR, CAT, "background", "drop")]),
    (DOG, [(OBJECT, CAT, "classification", (OBJECT, DOG))]),
    (CAT, [(NEAR, DOG, "both", "drop")]),  # the cat is missed, too
    (DOG, []),
    (None, [(FAR, CAT, "background", "drop")]),
    (CAT, [(OBJECT, CAT, None, None), (NEAR, CAT, "localisation", "drop"), (OBJECT, DOG, "classification", "drop")]),
]
COUNTS = dict(classification=2, localisation=2, both=1, duplicate=1, background=3, missed=2)


def case(seed, images=IMAGES):
    """The annotation file, and the predictions with random scores. The first of an image has the best score."""
    rng = np.random.default_rng(seed)
    annotations = [
        dict(id=i + 1, image_id=i, category_id=label, bbox=[20, 20, 40, 40], area=1600, iscrowd=0)
        for i, (label, _) in enumerate(images)
        if label is not None
    ]
    content = dict(
        images=[dict(id=i, height=150, width=150) for i in range(len(images))],
        categories=[dict(id=i, name=name) for i, name in enumerate(CLASSES)],
        annotations=annotations,
    )
    scores = [np.sort(rng.random(len(found)))[::-1] for _, found in images]
    return content, scores


def scored(content, boxes, labels, scores):
    predictions = [
        dict(bboxes=np.array(box, float).reshape(-1, 4), labels=np.array(label, int), scores=np.array(score, float))
        for box, label, score in zip(boxes, labels, scores)
    ]
    truth = truth_of(content, CLASSES, [image["id"] for image in content["images"]], masks=False)
    return truth, found_of(predictions, truth, masks=False)


def parts(images, scores, mended=None):
    """Boxes, classes and scores of each image, with one kind of error mended."""
    columns = ([], [], [])
    for (_, found), values in zip(images, scores):
        rows = []
        for (box, label, error, cure), score in zip(found, values):
            if error is None or error != mended:
                rows.append((box, label, score))
            elif cure != "drop":
                rows.append((*cure, score))
        for column, values in zip(columns, zip(*rows) if rows else ([], [], [])):
            column.append(list(values))
    return columns


def ap50(content, columns):
    truth, found = scored(content, *columns)
    return twelve_numbers(evaluate("bbox", truth, found, Rules()))["mAP_50"]


@pytest.mark.parametrize("seed", range(4))
def test_a_mended_error_gains_what_pycocotools_measures(seed):
    content, scores = case(seed)
    columns = parts(IMAGES, scores)
    errors = errors_of(*scored(content, *columns), most=100, masks=False)
    assert {name: errors.count(name) for name in ERRORS} == COUNTS
    now = ap50(content, columns)
    assert errors.average_precision() == pytest.approx(now) and 0 < now < 1
    gains = errors.gains()
    for name in ERRORS:
        mended = copy.deepcopy(content)
        if name == "missed":
            mended["annotations"] = [one for one in content["annotations"] if one["image_id"] not in (5, 6)]
        assert gains[name] == pytest.approx(max(0, ap50(mended, parts(IMAGES, scores, name)) - now)), name
    assert gains["localisation"] > 0 and gains["missed"] > 0


def test_errors_are_counted_by_class():
    content, scores = case(0)
    errors = errors_of(*scored(content, *parts(IMAGES, scores)), most=100, masks=False)
    counts = errors.by_category()
    assert [[counts[name, number] for number in (1, 2)] for name in ("classification", "missed", "background")] == [
        [1, 1],
        [1, 1],
        [2, 1],
    ]
    assert sum(counts.values()) == sum(COUNTS.values())


def test_of_two_that_mean_an_object_the_better_one_finds_it():
    images = [(CAT, [(NEAR, CAT, "localisation", (OBJECT, CAT)), (NEAR, CAT, "localisation", "drop")])]
    content, scores = case(1, images)
    errors = errors_of(*scored(content, *parts(images, scores)), most=100, masks=False)
    assert errors.count("localisation") == 2 and errors.count("missed") == 0
    assert errors.gains()["localisation"] == pytest.approx(ap50(content, parts(images, scores, "localisation")))


def test_predictions_inside_a_crowd_of_their_class_are_no_errors():
    images = [(CAT, [(OBJECT, CAT, None, None), (OBJECT, DOG, None, None)])]
    content, scores = case(0, images)
    content["annotations"][0]["iscrowd"] = 1
    errors = errors_of(*scored(content, *parts(images, scores)), most=100, masks=False)
    assert {name: errors.count(name) for name in ERRORS if errors.count(name)} == {"background": 1}
    assert errors.average_precision() is None and set(errors.gains().values()) == {0.0}


def test_only_the_best_predictions_of_an_image_count():
    content, scores = case(0)
    errors = errors_of(*scored(content, *parts(IMAGES, scores)), most=1, masks=False)
    assert errors.count("duplicate") == 0 and errors.count("background") == 1


def test_masks_are_judged_by_their_own_overlap():
    """Two crossing bars have boxes that overlap much more than they do."""
    from pycocotools import mask as coco_mask

    masks = np.zeros((2, 60, 60), np.uint8)
    np.fill_diagonal(masks[0], 1)
    np.fill_diagonal(masks[1, :, ::-1], 1)
    lengths = [coco_mask.encode(np.asfortranarray(mask)) for mask in masks]
    annotation = dict(id=1, image_id=0, category_id=0, bbox=[0, 0, 60, 60], area=60, iscrowd=0, segmentation=lengths[0])
    content = dict(
        images=[dict(id=0, height=60, width=60)],
        categories=[dict(id=i, name=name) for i, name in enumerate(CLASSES)],
        annotations=[annotation],
    )
    found = dict(bboxes=np.array([[0.0, 0, 60, 60]]), labels=np.array([0]), scores=np.array([0.9]), masks=lengths[1:])
    counts = {}
    for masks in (False, True):
        truth = truth_of(content, CLASSES, [0], masks)
        errors = errors_of(truth, found_of([found], truth, masks), 100, masks)
        counts[masks] = {name: errors.count(name) for name in ERRORS if errors.count(name)}
    assert counts == {False: {}, True: {"background": 1, "missed": 1}}


def test_the_picture_has_a_bar_for_each_error_that_costs():
    content, scores = case(0)
    errors = errors_of(*scored(content, *parts(IMAGES, scores)), most=100, masks=False)
    rows = error_rows(errors)
    picture = draw_errors(rows)
    none = draw_errors([row | {"count": 0, "AP50_lost": 0.0} for row in rows])
    assert picture.size == none.size and ImageChops.difference(picture, none).getbbox()
    blue = (np.asarray(picture).astype(int)[..., 2] - np.asarray(picture)[..., 0]) > 60
    lengths = [part.sum() for part in np.array_split(blue[60:-50], len(rows))]
    order = [row["AP50_lost"] for row in rows]
    np.testing.assert_allclose(np.array(lengths) / max(lengths), np.array(order) / max(order), atol=0.03)

"""Scores of boxes, masks and boundaries equal pycocotools' and mmdet's, whatever the backend.

A size or class without objects has no figure, and is named. The files that a test writes are what COCO's tools read.
"""

import contextlib
import csv
import io
import json

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import detection  # noqa: F401
from backbones.errors import UserError
from detection.coco_eval import Rules, boundary, evaluate, twelve_numbers
from detection.coco_truth import found_of, truth_of
from detection.metrics import FullCocoMetric

CLASSES = ("cat", "dog", "owl", "eel")
IDS = {"cat": 7, "dog": 3, "owl": 90, "eel": 0}  # the order of the ids is not that of the names
NAMES = [f"{name}" for name in ("mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l")] + [
    *("AR@1", "AR@10", "AR@100", "AR_s@100", "AR_m@100", "AR_l@100")
]
HEIGHT, WIDTH = 130, 150


def rle(mask):
    return coco_mask.encode(np.asfortranarray(mask, np.uint8))


def blob(rng, box):
    """A mask of an ellipse in a box (x, y, w, h)."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    x, y, w, h = box
    centre, half = (round(x + w / 2), round(y + h / 2)), (max(1, round(w / 2)), max(1, round(h / 2)))
    return cv2.ellipse(mask, centre, half, float(rng.uniform(0, 20)), 0, 360, 1, -1)


def random_box(rng, largest):
    w, h = rng.uniform(8, largest, 2)
    return [float(rng.uniform(0, WIDTH - w)), float(rng.uniform(0, HEIGHT - h)), float(w), float(h)]


def scenes(largest=100, images=6, classes=("cat", "dog", "owl"), seed=0):
    """A COCO file with crowds, polygons, both kinds of run lengths, and empty images; and noisy predictions of it."""
    rng = np.random.default_rng(seed)
    annotations, predictions = [], []
    for i in range(images):
        found = []
        for k in range(0 if i == 1 else 5):
            name, box = classes[rng.integers(len(classes))], random_box(rng, largest)
            box = box if i + k else [3.0, 4.0, float(largest), float(largest)]
            mask = blob(rng, box)
            kind = (i + k) % 3
            x, y, w, h = box
            segmentation = [[x, y, x + w, y, x + w, y + h, x, y + h]] if kind == 0 else plain_counts(mask)
            if kind == 2:
                segmentation = {**rle(mask), "counts": rle(mask)["counts"].decode()}
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=10 * i,
                    category_id=IDS[name],
                    bbox=box,
                    area=float(mask.sum()) if kind else w * h,
                    iscrowd=int(kind == 1 and k == 4),
                    segmentation=segmentation,
                )
            )
            for _ in range(rng.integers(0, 4)):
                moved = (np.array(box) + rng.normal(0, rng.choice([0.3, 3, 12]), 4)).tolist()
                moved[2:] = [max(side, 4) for side in moved[2:]]
                guess = CLASSES.index(name) if rng.random() < 0.8 else int(rng.integers(len(CLASSES)))
                found.append((moved, float(rng.random()), guess))
        found += [(random_box(rng, largest), float(rng.random()), int(rng.integers(4))) for _ in range(i == 2)]
        boxes = np.array([[x, y, x + w, y + h] for (x, y, w, h), *_ in found]).reshape(-1, 4)
        predictions.append(
            dict(
                img_id=10 * i,
                bboxes=boxes,
                scores=np.array([score for _, score, _ in found]),
                labels=np.array([label for *_, label in found], int),
                masks=[rle(blob(rng, box)) for box, *_ in found],
            )
        )
    content = dict(
        images=[dict(id=10 * i, height=HEIGHT, width=WIDTH, file_name=f"{i}.png") for i in range(images)],
        categories=[dict(id=IDS[name], name=name) for name in CLASSES],
        annotations=annotations,
    )
    return content, predictions


def plain_counts(mask):
    flat = np.concatenate([[0], mask.flatten("F"), [1 - mask.flatten("F")[-1]]])
    return dict(
        size=[HEIGHT, WIDTH], counts=np.diff(np.concatenate([[0], np.flatnonzero(np.diff(flat)), [mask.size]])).tolist()
    )


def write(content, tmp_path, name="truth.json"):
    path = tmp_path / name
    path.write_text(json.dumps(content))
    return str(path)


def metric_of(predictions, classes=CLASSES, **options):
    """A metric that has seen the predictions."""
    metric = FullCocoMetric(**options)
    metric.dataset_meta = dict(classes=classes)
    metric.results = [(dict(img_id=one["img_id"]), one) for one in predictions]
    return metric


def computed(metric):
    return metric.evaluate(len(metric.results))


def by_coco(path, results, kind):
    """COCO's twelve numbers, by its own tools from its own files."""
    with contextlib.redirect_stdout(io.StringIO()):
        given = COCO(path)
        run = COCOeval(given, given.loadRes(results), kind)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return dict(zip(NAMES, run.stats.tolist()))


@pytest.mark.parametrize("backend", ["pycocotools", "faster-coco-eval"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_numbers_are_those_of_cocos_tools_on_the_written_files(backend, seed, tmp_path):
    content, predictions = scenes(seed=seed)
    path, prefix = write(content, tmp_path), str(tmp_path / "out/found")
    options = dict(ann_file=path, metric=["bbox", "segm"], backend=backend, outfile_prefix=prefix)
    found = computed(metric_of(predictions, **options))
    for kind in ("bbox", "segm"):
        wanted = by_coco(path, f"{prefix}.{kind}.json", kind)
        assert {name: found[f"coco/{kind}_{name}"] for name in NAMES} == pytest.approx(wanted, abs=1e-9)
        assert 0.05 < wanted["mAP"] < 0.9 and -1 not in wanted.values()
    rows = json.loads((tmp_path / "out/found.segm.json").read_text())
    assert len(rows) == sum(len(one["scores"]) for one in predictions)
    assert set(rows[0]) == {"image_id", "category_id", "segmentation", "score"}


def test_the_numbers_are_those_of_mmdets_metric(tmp_path):
    from mmdet.evaluation import CocoMetric

    content, predictions = scenes()
    path = write(content, tmp_path)
    theirs = CocoMetric(path, metric=["bbox", "segm"])
    theirs.dataset_meta = dict(classes=CLASSES)
    theirs.results = [(dict(img_id=one["img_id"]), one) for one in predictions]
    found = computed(metric_of(predictions, ann_file=path, metric=["bbox", "segm"]))
    for name, value in computed(theirs).items():
        assert found[name] == pytest.approx(value, abs=6e-4), name


def test_sizes_and_classes_without_objects_are_named(tmp_path, capsys):
    content, predictions = scenes(largest=28)  # nothing large, no eel
    path = write(content, tmp_path)
    report = tmp_path / "report"
    metric = metric_of(predictions, ann_file=path, report=str(report))
    found = computed(metric)
    assert found["coco/bbox_mAP_m"] is None and found["coco/bbox_AR_l@100"] is None and found["coco/bbox_mAP_s"] > 0
    note = capsys.readouterr().err
    assert "no objects of the sizes m, l in the ground truth" in note
    assert "no objects of 1 of 4 classes in the ground truth: eel" in note
    content = json.loads((report / "report.json").read_text())
    assert content["metrics"]["bbox_mAP_l"] is None and content["no_objects"] == ["eel"]
    with (report / "per_class.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[3]["class"] == "eel" and rows[3]["objects"] == "0" and rows[3]["bbox_AP"] == ""
    metric.results = [(dict(img_id=one["img_id"]), one) for one in predictions]
    computed(metric)
    assert capsys.readouterr().err == ""  # a training says it once


def test_the_table_of_the_classes_is_that_of_one_class_alone(tmp_path):
    content, predictions = scenes()
    path, report = write(content, tmp_path), tmp_path / "report"
    computed(
        metric_of(
            predictions, ann_file=path, metric=["bbox", "segm"], report=str(report), outfile_prefix=str(report / "all")
        )
    )
    rows = json.loads((report / "report.json").read_text())["classes"]
    for row in rows[:3]:
        one = [a for a in content["annotations"] if a["category_id"] == IDS[row["class"]]]
        alone = write(content | {"annotations": one}, tmp_path, "one.json")
        for kind in ("bbox", "segm"):
            wanted = by_coco(alone, str(report / f"all.{kind}.json"), kind)
            names = {"AP": "mAP", "AP50": "mAP_50", "AP75": "mAP_75", "AR": "AR@100"}
            assert {ours: row[f"{kind}_{ours}"] for ours in names} == pytest.approx(
                {ours: wanted[theirs] for ours, theirs in names.items()}, abs=6e-5
            )
        assert row["objects"] == sum(not a["iscrowd"] for a in one)
        assert row["images"] == len({a["image_id"] for a in one if not a["iscrowd"]})


@pytest.mark.parametrize("kind", ["bbox", "segm", "boundary"])
def test_both_backends_agree_with_and_without_predictions_and_objects(kind):
    content, predictions = scenes(seed=3)
    nothing = [
        one | dict(bboxes=np.zeros((0, 4)), scores=np.zeros(0), labels=np.zeros(0, int), masks=[])
        for one in predictions
    ]
    ids = [one["img_id"] for one in predictions]
    crowds = [
        annotation | {"iscrowd": 1, "segmentation": plain_counts(np.eye(HEIGHT, WIDTH))}
        for annotation in content["annotations"]
    ]
    for annotations in (content["annotations"], [], crowds):
        for found in (predictions, nothing):
            truth = truth_of(content | {"annotations": annotations}, CLASSES, ids, masks=kind != "bbox")
            rows = found_of(found, truth, masks=kind != "bbox")
            rules = [Rules(max_dets=(1, 3, 100), backend=name) for name in ("pycocotools", "faster-coco-eval")]
            ours, theirs = (twelve_numbers(evaluate(kind, truth, rows, one)) for one in rules)
            assert ours == pytest.approx(theirs, abs=1e-9, nan_ok=False)
            full = annotations is content["annotations"]
            assert (ours["mAP"] is None) != full and (not full or (ours["mAP"] > 0) == (found is predictions))


def test_a_boundary_is_the_difference_of_a_mask_and_its_erosion():
    """As in the authors' code: one pixel after another is taken off, also at the border of the image."""
    rng = np.random.default_rng(0)
    masks = [blob(rng, random_box(rng, 100)) for _ in range(6)] + [np.ones((HEIGHT, WIDTH), np.uint8)]
    for mask in (*masks, np.zeros((HEIGHT, WIDTH), np.uint8)):
        padded = np.pad(mask, 1)
        for _ in range(round(0.02 * np.hypot(HEIGHT, WIDTH))):
            shifted = [np.roll(padded, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
            padded = np.pad(np.min(shifted, axis=0)[1:-1, 1:-1], 1)
        np.testing.assert_array_equal(coco_mask.decode(boundary(rle(mask))), mask - padded[1:-1, 1:-1])


def test_other_sizes_than_cocos(tmp_path):
    """Objects of another size are ignored, and so are unmatched predictions of another size."""
    content, predictions = scenes()
    path = write(content, tmp_path)
    ranges = {"tiny": (0, 700), "rest": [700, 1e10]}
    found = computed(metric_of(predictions, ann_file=path, area_ranges=ranges, proposal_nums=(100, 5)))
    assert list(found) == [f"coco/bbox_{name}" for name in ("mAP", "mAP_50", "mAP_75", "mAP_tiny", "mAP_rest")] + [
        f"coco/bbox_{name}" for name in ("AR@5", "AR@100", "AR_tiny@100", "AR_rest@100")
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        given = COCO(path)
        rows = [
            dict(image_id=one["img_id"], category_id=IDS[CLASSES[k]], score=s, bbox=[x, y, u - x, v - y])
            for one in predictions
            for (x, y, u, v), s, k in zip(one["bboxes"].tolist(), one["scores"].tolist(), one["labels"])
        ]
        run = COCOeval(given, given.loadRes(rows), "bbox")
        run.params.areaRng[1] = [0, 700]
        run.evaluate()
        run.accumulate()
        run.summarize()
    assert found["coco/bbox_mAP_tiny"] == pytest.approx(run.stats[3])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(metric="proposal"), "unknown metric 'proposal'; .*segm"),
        (dict(backend="fast"), "unknown backend 'fast'; .*faster-coco-eval"),
        (dict(metric_items=["mAP", "AR100"]), "unknown metric item 'AR100'; .*AR@100"),
        (dict(area_ranges={"s": (9, 1)}), "area_ranges=.*; allowed: names with the least and largest area"),
        (dict(area_ranges=[1, 2]), "area_ranges=.*; allowed"),
    ],
)
def test_bad_options_are_named(options, words):
    with pytest.raises(UserError, match=words):
        FullCocoMetric(**options)


def test_bad_data_are_named(tmp_path, monkeypatch):
    content, predictions = scenes()
    path = write(content, tmp_path)

    def refused(words, predictions=predictions, classes=CLASSES, **options):
        with pytest.raises(UserError, match=words):
            computed(metric_of(predictions, classes, **{"ann_file": path, "metric": "segm", **options}))

    refused("the model predicts class [23], counted from 0, and the data have 2 classes", classes=CLASSES[:2])
    boxes = [{key: value for key, value in one.items() if key != "masks"} for one in predictions]
    refused("the detector predicts boxes alone", boxes)
    small = [one | {"masks": [rle(np.zeros((20, 20)))] * len(one["scores"])} for one in predictions]
    refused("predicted masks have 20x20 pixels, and by the annotation file their image has 150x130", small)
    bare = [{key: value for key, value in a.items() if key != "segmentation"} for a in content["annotations"]]
    refused("no segmentation: 1, 2, 3, ... ", ann_file=write(content | {"annotations": bare}, tmp_path, "bare.json"))
    other = [a | {"segmentation": dict(size=[9, 8], counts=[72])} for a in content["annotations"]]
    refused(
        "annotation 1: its mask has 8x9 pixels", ann_file=write(content | {"annotations": other}, tmp_path, "o.json")
    )
    monkeypatch.setitem(__import__("sys").modules, "faster_coco_eval", None)
    refused("needs the package faster-coco-eval; pip install faster-coco-eval", backend="faster-coco-eval")


def test_a_class_that_the_file_lacks_is_named_and_the_others_keep_their_numbers(tmp_path, capsys):
    content, predictions = scenes()
    path = write(content, tmp_path)
    whole = computed(metric_of(predictions, ann_file=path))
    lacking = write(
        content | {"categories": [one for one in content["categories"] if one["name"] != "eel"]}, tmp_path, "l.json"
    )
    assert computed(metric_of(predictions, ann_file=lacking)) == whole
    assert "no category for the classes eel" in capsys.readouterr().err


def test_some_numbers_alone(tmp_path):
    content, predictions = scenes()
    path = write(content, tmp_path)
    whole = computed(metric_of(predictions, ann_file=path))
    some = computed(metric_of(predictions, ann_file=path, metric_items=("AR@10", "mAP_s")))
    assert some == {name: whole[name] for name in ("coco/bbox_mAP_s", "coco/bbox_AR@10")}


def test_annotation_ids_of_zero_count(tmp_path):
    """pycocotools takes a match with the annotation 0 for none."""
    content, predictions = scenes(images=1)
    first = [annotation | {"id": i} for i, annotation in enumerate(content["annotations"])]
    paths = [write(content, tmp_path), write(content | {"annotations": first}, tmp_path, "zero.json")]
    one, other = (computed(metric_of(predictions, ann_file=path)) for path in paths)
    assert one == other


def test_predictions_can_be_written_without_scoring(tmp_path):
    content, predictions = scenes()
    path = write({key: value for key, value in content.items() if key != "annotations"}, tmp_path)
    options = dict(ann_file=path, metric="segm", format_only=True, outfile_prefix=str(tmp_path / "all"))
    assert computed(metric_of(predictions, **options)) == {}
    assert json.loads((tmp_path / "all.bbox.json").read_text()) and (tmp_path / "all.segm.json").is_file()


def test_tensors_of_a_model_are_scored_with_the_data_sets_own_annotations():
    """Without an annotation file the truth comes with the samples, as from data sets of other formats."""
    import torch

    metric = FullCocoMetric(metric=["bbox", "segm"])
    metric.dataset_meta = dict(classes=("cat", "dog"))
    mask = torch.zeros(1, 40, 60, dtype=torch.bool)
    mask[0, 5:25, 10:30] = True
    truth = dict(bbox=[10, 5, 30, 25], bbox_label=1, ignore_flag=0, mask=rle(mask[0].numpy()))
    pred = dict(
        bboxes=torch.tensor([[10.0, 5, 30, 25]]), scores=torch.tensor([0.9]), labels=torch.tensor([1]), masks=mask
    )
    metric.process({}, [dict(img_id=4, ori_shape=(40, 60), instances=[truth], pred_instances=pred)])
    found = metric.evaluate(1)
    assert found["coco/bbox_mAP"] == found["coco/segm_mAP"] == pytest.approx(1)
    assert found["coco/bbox_mAP_l"] is None

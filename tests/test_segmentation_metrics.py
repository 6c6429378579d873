"""Figures of segmentation equal mmseg's and scikit-learn's. Classes that the ground truth lacks are named."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score, recall_score

import segmentation  # noqa: F401
from backbones.errors import UserError
from segmentation.metrics import FullIoUMetric

CLASSES = ("road", "car", "tree", "pool", "fence")
IGNORE = 255


def maps(images=4, seed=0):
    """True maps without pool and fence, some unlabelled; predictions that are mostly right, never a fence."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(images):
        true = rng.integers(0, 3, (20, 30))
        guess = np.where(rng.random((20, 30)) < 0.7, true, rng.integers(0, 4, (20, 30)))
        true[rng.random((20, 30)) < 0.1] = IGNORE
        pairs.append((true, guess))
    return pairs


def computed(metric, pairs, classes=CLASSES):
    metric.dataset_meta = dict(classes=classes)
    for i, (true, guess) in enumerate(pairs):
        true, guess = (torch.from_numpy(one)[None] for one in (true, guess))
        sample = dict(pred_sem_seg=dict(data=guess), gt_sem_seg=dict(data=true), img_path=f"a/{i}.jpg")
        metric.process({}, [sample])
    return metric.evaluate(len(pairs))


@pytest.mark.parametrize("names", [["mIoU"], ["mIoU", "mDice", "mFscore"], ["mDice"]])
@pytest.mark.parametrize("options", [{}, {"nan_to_num": 0}, {"beta": 2}])
def test_the_figures_are_mmsegs(names, options):
    from mmseg.evaluation import IoUMetric

    theirs = computed(IoUMetric(iou_metrics=names, **options), maps())
    found = computed(FullIoUMetric(iou_metrics=names, **options), maps())
    assert found == pytest.approx({name: float(value) for name, value in theirs.items()}, abs=6e-3)


def test_the_table_is_scikit_learns(tmp_path, capsys):
    pairs = maps()
    found = computed(FullIoUMetric(["mIoU", "mDice"], report=str(tmp_path)), pairs)
    kept = [(true[true != IGNORE], guess[true != IGNORE]) for true, guess in pairs]
    true, guess = (np.concatenate(column) for column in zip(*kept))
    options = dict(labels=range(5), average=None, zero_division=np.nan)
    wanted = {
        "IoU": jaccard_score(true, guess, labels=range(5), average=None, zero_division=0),
        "Acc": recall_score(true, guess, **options),
        "Dice": f1_score(true, guess, **options),
    }
    wanted["IoU"][4] = wanted["Dice"][4] = np.nan  # neither true nor predicted
    with (tmp_path / "per_class.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name, values in wanted.items():
        read = [float(row[name]) if row[name] else np.nan for row in rows]
        np.testing.assert_allclose(read, 100 * values, atol=1e-3)
        assert found[f"m{name}"] == pytest.approx(100 * np.nanmean(values))
    with (tmp_path / "confusion.csv").open() as file:
        head, *lines = csv.reader(file)
    assert head[1:] == [line[0] for line in lines] == list(CLASSES)
    counts = np.array([line[1:] for line in lines], int)
    np.testing.assert_array_equal(counts, confusion_matrix(true, guess, labels=range(5)))
    assert [int(row["pixels"]) for row in rows] == counts.sum(1).tolist()
    off = counts[0] * (np.arange(5) > 0)
    assert rows[0]["mistaken_for"] == CLASSES[off.argmax()]
    assert float(rows[0]["mistaken_percent"]) == pytest.approx(100 * off.max() / counts[0].sum(), abs=1e-3)
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["absent"] == ["pool", "fence"] and content["images"] == 4 and content["metrics"] == found
    assert content["classes"][3]["Acc"] is None and content["classes"][3]["IoU"] == 0
    assert Image.open(tmp_path / "confusion.png").width > 400
    note = capsys.readouterr().err
    assert (
        "not in the ground truth: 2 of 5 classes: pool, fence; predicted all the same, and so with IoU 0: pool" in note
    )


def test_without_any_label_nothing_is_scored(capsys):
    nothing = [(np.full((4, 4), IGNORE), np.zeros((4, 4), int))]
    assert computed(FullIoUMetric(), nothing) == {"aAcc": None, "mIoU": None, "mAcc": None}
    assert "no pixel of the ground truth has a label" in capsys.readouterr().err


def test_a_note_comes_once(capsys):
    metric = FullIoUMetric()
    computed(metric, maps())
    assert capsys.readouterr().err
    computed(metric, maps())
    assert not capsys.readouterr().err


def test_bad_input_is_named():
    with pytest.raises(UserError, match=r"unknown metric 'IoU'; .*mIoU"):
        FullIoUMetric(["IoU"])
    with pytest.raises(UserError, match="the model predicts class 3, counted from 0, and the data have 3 classes"):
        computed(FullIoUMetric(), maps(), CLASSES[:3])


def test_predictions_can_be_written(tmp_path):
    pairs = maps()
    assert computed(FullIoUMetric(output_dir=str(tmp_path), format_only=True), pairs) == {}
    for i, (_, guess) in enumerate(pairs):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / f"{i}.png")), guess)


def test_images_of_one_name_in_two_folders_have_a_prediction_each(tmp_path):
    metric = FullIoUMetric(output_dir=str(tmp_path / "out"), image_folders=[str(tmp_path / "images")])
    metric.dataset_meta = dict(classes=CLASSES)
    pairs = maps(images=3)
    for (true, guess), path in zip(pairs, ("images/a/0.jpg", "images/b/0.jpg", "elsewhere/0.jpg"), strict=True):
        true, guess = (torch.from_numpy(one)[None] for one in (true, guess))
        sample = dict(pred_sem_seg=dict(data=guess), gt_sem_seg=dict(data=true), img_path=str(tmp_path / path))
        metric.process({}, [sample])
    for (_, guess), name in zip(pairs, ("a/0.png", "b/0.png", "0.png"), strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / name)), guess)

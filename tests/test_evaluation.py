"""Metrics and reports of classification, beside scikit-learn and plain restatements; test sets; views of an image."""

import csv
import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image, ImageChops
from sklearn.metrics import confusion_matrix, precision_score, recall_score
from timm.data import ImageNetInfo, RealLabelsImagenet, create_transform
from torchvision.transforms import TenCrop

from backbones import UserError
from classification.data import ImageFolder
from classification.metrics import Accuracy, CalibrationError
from classification.real_labels import RealLabels
from classification.report import Report
from classification.test_sets import folders_of
from classification.tta import AveragedViews, FiveCrops, use_views
from ziggurat.engine.confusion import draw_confusion, grouped

WNIDS = ImageNetInfo().label_names()


def predictions(count, num_classes, seed=0):
    rng = np.random.default_rng(seed)
    scores = torch.tensor(rng.normal(0, 2, (count, num_classes))).softmax(1).float()
    labels = np.where(rng.random(count) < 0.5, scores.argmax(1).numpy(), rng.integers(0, num_classes, count))
    return scores, labels


def evaluated(metric, scores, labels, meta=None):
    metric.dataset_meta = meta
    samples = [dict(scores=s, label=int(label)) for s, label in zip(scores, labels, strict=True)]
    half = (len(samples) + 1) // 2
    metric.process(None, samples[:half])
    metric.process(None, samples[half:])
    return metric.evaluate(len(samples))


def test_calibration_error_against_its_definition():
    scores, labels = predictions(400, 6)
    error = 0.0
    for k in range(15):
        inside = [
            (float(s.max()), int(s.argmax()) == label)
            for s, label in zip(scores, labels, strict=True)
            if k / 15 < float(s.max()) <= (k + 1) / 15
        ]
        if inside:
            confidence, right = (sum(values) / len(inside) for values in zip(*inside, strict=True))
            error += len(inside) / 400 * abs(confidence - right)
    assert evaluated(CalibrationError(), scores, labels)["ece"] == pytest.approx(100 * error, abs=1e-6)


def test_a_sure_and_right_classifier_is_calibrated_and_a_sure_and_wrong_one_is_not():
    scores = torch.eye(4)
    assert evaluated(CalibrationError(), scores, [0, 1, 2, 3]) == {"ece": 0}
    assert evaluated(CalibrationError(), scores, [1, 2, 3, 0]) == {"ece": 100}


def test_a_subset_is_a_softmax_over_its_classes(tmp_path):
    """timm evaluates ImageNet-R and -A by picking the columns of the logits."""
    logits, subset = torch.randn(50, 8), [1, 4, 6]
    labels = np.random.default_rng(0).choice(subset, 50)
    picked = logits[:, subset].softmax(1)
    local = [subset.index(label) for label in labels]
    full = logits.softmax(1)
    for make in (lambda **kw: Accuracy(topk=(1, 2), **kw), CalibrationError):
        restricted, plain = evaluated(make(subset=subset), full, labels), evaluated(make(), picked, local)
        assert restricted == pytest.approx(plain, rel=1e-4)


def test_the_report_against_scikit_learn(tmp_path):
    scores, labels = predictions(300, 5)
    labels[labels == 3] = 0  # a class without images
    names = ["ant", "bee", "cow", "dog", "n01440764"]
    metrics = evaluated(Report(tmp_path, names), scores, labels)
    best = scores.argmax(1).numpy()
    with (tmp_path / "confusion.csv").open() as file:
        head, *rows = csv.reader(file)
    assert head[1:] == [row[0] for row in rows] == names
    counts = np.array([row[1:] for row in rows], int)
    np.testing.assert_array_equal(counts, confusion_matrix(labels, best, labels=range(5)))
    with (tmp_path / "per_class.csv").open() as file:
        table = list(csv.DictReader(file))
    recall = recall_score(labels, best, labels=range(5), average=None, zero_division=np.nan)
    precision = precision_score(labels, best, labels=range(5), average=None, zero_division=np.nan)
    for row, wanted, other in zip(table, recall, precision, strict=True):
        assert (float(row["top1"]) if row["top1"] else np.nan) == pytest.approx(100 * wanted, abs=1e-3, nan_ok=True)
        assert float(row["precision"]) == pytest.approx(100 * other, abs=1e-3)
    assert table[4]["description"] == "tench, Tinca tinca" and table[3]["images"] == "0"
    wrong = counts[0].copy()
    wrong[0] = 0
    assert table[0]["mistaken_for"] == names[wrong.argmax()]
    assert metrics["mean_class_top1"] == pytest.approx(100 * np.nanmean(recall), abs=1e-3)
    summary = json.loads((tmp_path / "report.json").read_text())
    assert summary["images"] == 300 == sum(row["images"] for row in summary["reliability"])
    assert summary["top1"] == evaluated(Accuracy(), scores, labels)["top1"]
    assert summary["ece"] == pytest.approx(evaluated(CalibrationError(), scores, labels)["ece"])
    assert Image.open(tmp_path / "confusion.png").width > 600


def test_a_report_of_a_subset_has_its_classes_only(tmp_path):
    scores, labels = predictions(40, 6)
    labels = np.where(labels < 3, 1, 4)
    evaluated(Report(tmp_path, list("abcdef"), subset=[1, 4]), scores, labels)
    with (tmp_path / "confusion.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["true", "b", "e"] and sum(int(cell) for row in rows[1:] for cell in row[1:]) == 40


@pytest.mark.parametrize("count", [2, 10, 1000])
def test_the_picture_shows_the_matrix(count):
    """The blue pixels lie on the diagonal of a good classifier. The picture stays of a size to look at."""
    picture = draw_confusion(np.eye(count, dtype=int) * 50, [f"class {i}" for i in range(count)])
    assert min(picture.size) > 250 and max(picture.size) < 2000
    pixels = np.asarray(picture).astype(int)
    rows, columns = np.nonzero(pixels[..., 2] - pixels[..., 0] > 60)
    offset = (columns - columns.min()) - (rows - rows.min())
    assert len(rows) > 800 and np.abs(offset).max() <= (101 if count < 20 else 8)


def test_groups_of_classes_keep_every_image():
    counts = np.random.default_rng(0).integers(0, 9, (10, 10))
    pooled = grouped(counts, 4)
    assert pooled.shape == (3, 3) and pooled.sum() == counts.sum() and pooled[2, 0] == counts[8:, :4].sum()


@pytest.fixture
def folder(tmp_path):
    """Makes class folders with an image each."""

    def make(*names):
        for i, name in enumerate(names):
            (tmp_path / name).mkdir()
            pixels = np.random.default_rng(i).integers(0, 256, (40, 52, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"ILSVRC2012_val_{i + 1:08}.png")
        return tmp_path

    return make


def test_numbers_of_imagenet_v2_are_no_sorted_names(folder):
    """Sorted as text, folder "10" would come before "2"."""
    root = folder("0", "10", "2", "999")
    data = ImageFolder(root, ".", dict(input_size=32), classes=folders_of(root, WNIDS))
    assert sorted(label for _, label in data.samples) == [0, 2, 10, 999]
    assert all(int(path.split("/")[-2]) == label for path, label in data.samples)
    turned = WNIDS[::-1]  # a model may have another order
    assert folders_of(root, turned)[999 - 10] == "10"


def test_folders_of_imagenet_r_are_found_by_name(folder):
    root = folder(WNIDS[5], WNIDS[3])
    data = ImageFolder(root, ".", dict(input_size=32), classes=folders_of(root, WNIDS))
    assert sorted(label for _, label in data.samples) == [3, 5]


@pytest.mark.parametrize(
    ("names", "classes"), [(["cat", "dog"], ["cat", "cow"]), (["0", "1000"], WNIDS), (["0", "1"], ["a", "b"])]
)
def test_folders_that_name_no_class_are_refused(folder, names, classes):
    with pytest.raises(UserError, match=f"no class of the weights: .*{names[1]}"):
        folders_of(folder(*names), classes)


@pytest.fixture
def real(folder, tmp_path):
    root = folder(*WNIDS[:4])
    (tmp_path / "real.json").write_text(json.dumps([[0, 7], [], [5], [3, 2]]))
    return dict(type="ImageFolder", data_root=str(root), folder=".", transform=dict(input_size=32)), tmp_path


def test_real_labels_against_timm(real):
    config, root = real
    data = RealLabels({**config, "classes": WNIDS}, WNIDS, str(root / "real.json"))
    assert len(data) == 3 and data[1]["data_samples"] == 1 and data[0]["inputs"].shape == (3, 32, 32)
    scores = torch.rand(4, 1000).softmax(1)
    scores[0, 7] = scores[3, 4] = 1
    scores[3, 2] = 0.9
    timm = RealLabelsImagenet([f"ILSVRC2012_val_{i + 1:08}.JPEG" for i in range(4)], root / "real.json")
    timm.add_result(scores)
    found = evaluated(Accuracy(), scores[[0, 2, 3]], [0, 1, 2], data.metainfo)
    assert found == pytest.approx({f"top{k}": value for k, value in timm.get_accuracy().items()})
    assert found["top1"] == pytest.approx(100 / 3)


def test_bad_real_labels_are_named(real):
    config, root = real
    config["classes"] = WNIDS

    def refused(labels, words, classes=WNIDS):
        with pytest.raises(UserError, match=words):
            RealLabels(config, classes, labels)

    refused(str(root / "absent.json"), "absent.json: No such file")
    (root / "bad.json").write_text("[[0], [1000]]")
    refused(str(root / "bad.json"), "no list of lists of classes 0 to 999")
    (root / "short.json").write_text("[[0]]")
    refused(str(root / "short.json"), "00000002.png is no image that ImageNet-Real knows")
    (root / "none.json").write_text("[[], [], [], []]")
    refused(str(root / "none.json"), "none of 4 images has a label")
    refused(None, "ImageNet's 1000 classes", ["cat", "dog"])


class Mean(torch.nn.Module):
    """A classifier of (B, 3, H, W) whose scores say which columns of the image are bright."""

    def test_step(self, data):
        x = data["inputs"].float().mean(dim=(1, 2))
        return [dict(scores=row.softmax(0), label=int(label)) for row, label in zip(x, data["data_samples"])]


@pytest.mark.parametrize(("word", "crops", "flip"), [("flip", 1, True), ("five", 5, False), ("ten", 5, True)])
def test_views_are_averaged(word, crops, flip):
    inputs = torch.rand(2, crops, 3, 8, 8) if crops > 1 else torch.rand(2, 3, 8, 8)
    data = dict(inputs=inputs, data_samples=torch.tensor([1, 6]))
    found = AveragedViews(Mean(), word).test_step(data)
    for i, one in enumerate(found):
        views = list(inputs[i].reshape(-1, 3, 8, 8))
        views += [torch.flip(view, (2,)) for view in views] if flip else []
        expected = torch.stack([view.mean(dim=(0, 1)).softmax(0) for view in views]).mean(0)
        torch.testing.assert_close(one["scores"], expected)
        assert one["label"] == [1, 6][i] and one["pred_label"] == int(expected.argmax())


def test_ten_crops_are_torchvisions(folder):
    options = dict(is_training=False, input_size=32, crop_pct=0.8)
    data = FiveCrops(dict(type="ImageFolder", data_root=str(folder("a")), folder=".", transform=options))
    crops = data[0]["inputs"]
    assert crops.shape == (5, 3, 32, 32) and crops.dtype == torch.uint8 and data.metainfo == {"classes": ("a",)}
    resize = create_transform(**options, interpolation="bicubic", use_prefetcher=True).transforms[0]
    image = resize(Image.open(data.samples[0][0]))
    wanted = torch.stack([torch.from_numpy(np.array(crop)).permute(2, 0, 1) for crop in TenCrop(32)(image)])
    ours = torch.cat([crops, crops.flip(-1)])
    assert {view.numpy().tobytes() for view in ours} == {view.numpy().tobytes() for view in wanted}


def test_five_crops_need_something_to_crop_off(folder):
    whole = dict(is_training=False, input_size=32, crop_pct=1.0, crop_mode="squash")
    dataset = dict(type="ImageFolder", data_root=str(folder("a")), folder=".", transform=whole)
    cfg = Config(dict(test_dataloader=dict(dataset=dataset), model=dict(type="Classifier")))
    with pytest.raises(UserError, match="take whole images, without a crop; allowed: flip"):
        use_views(cfg, "ten")
    use_views(cfg, "flip")
    assert cfg.model.module.type == "Classifier"
    with pytest.raises(UserError, match="need a transform with a central crop"):
        FiveCrops({**dataset, "transform": dict(is_training=True, input_size=32)})


@pytest.mark.parametrize("classes", [1, 2, 3, 10, 200])
@pytest.mark.parametrize("right", [True, False])
def test_the_picture_is_as_large_as_what_it_shows(classes, right):
    """Beside matrix and list there are margins only, and no text is cut off."""
    counts = np.eye(classes, dtype=int) * 9 + (0 if right else np.arange(classes**2).reshape(classes, classes))
    picture = draw_confusion(counts, [f"{'long ' * (i % 7)}class {i}" for i in range(classes)])
    left, top, end, bottom = ImageChops.difference(picture, Image.new("RGB", picture.size, "white")).getbbox()
    margins = (left, top, picture.width - end, picture.height - bottom)
    assert min(margins) >= 5 and max(margins) <= 130, (picture.size, margins)

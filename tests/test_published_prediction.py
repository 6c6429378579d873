"""Published classifiers predict without a config, by name, URL or file, and results of two runs do not meet."""

import csv
import json
from pathlib import Path

import extract_features
import numpy as np
import predict
import pytest
import torch
from helpers import run
from PIL import Image
from timm.data import ImageNetInfo, create_transform

from backbones import WEIGHTS, UserError, create_backbone
from backbones.weights import own_meta
from backbones.weights.fetch import fetch_first
from classification import create_classifier
from ziggurat import engine
from ziggurat.engine.config import load_config
from ziggurat.engine.own_testing import own_testing_config
from ziggurat.engine.places import place_of
from ziggurat.engine.tasks import task_for

NAMES = ImageNetInfo().label_descriptions()


@pytest.fixture
def published(cut_depths, tmp_path, monkeypatch):
    """A random classifier, as the file that a name of the weights table stands for."""
    monkeypatch.chdir(tmp_path)
    cut_depths("van_b0", (1, 1, 1, 1))
    torch.manual_seed(0)
    clf = create_classifier("van_b0").eval()
    clf.head.fc.weight.data.mul_(100)
    path = tmp_path / "van.pth"
    torch.save({"state_dict": clf.state_dict()}, path)
    monkeypatch.setitem(WEIGHTS, "van_b0.in1k", WEIGHTS["van_b0.in1k"]._replace(urls=(path.as_uri(),)))
    fetch_first.cache_clear()
    pixels = np.random.default_rng(0).integers(0, 256, (80, 100, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    yield clf
    fetch_first.cache_clear()


@pytest.mark.parametrize("by", ["name", "url", "file"])
def test_a_published_classifier_predicts_in_words(by, published, tmp_path):
    """The best classes are those of timm's transform and the classifier, under timm's words."""
    given = {"name": "van_b0.in1k", "url": (tmp_path / "van.pth").as_uri(), "file": tmp_path / "van.pth"}[by]
    predictor = engine.Predictor(given)
    found = predictor("photo.png")
    transform = create_transform(224, crop_pct=0.9, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3)
    with torch.no_grad():
        scores = published(transform(Image.open("photo.png").convert("RGB"))[None])[0].softmax(0)
    assert found.labels[:5].tolist() == scores.topk(5).indices.tolist()
    np.testing.assert_allclose(found.scores, scores.sort(descending=True).values, rtol=1e-3, atol=1e-6)
    assert found.names[:5] == [NAMES[i].split(",")[0] for i in found.labels[:5]]


def test_the_tool_takes_what_the_library_takes(published, tmp_path, monkeypatch, capsys):
    argv = ["van_b0.in1k", "photo.png", "--device", "cpu"]
    status, _, err = run(predict, argv, monkeypatch, capsys)
    assert status == 0, err
    written = json.loads((tmp_path / "work_dirs/predict/van_b0.in1k/photo.json").read_text())
    assert written["categories"] == [NAMES[i].split(",")[0] for i in written["labels"]]
    status, _, err = run(predict, [*argv, "--format", "csv", "--out", "found"], monkeypatch, capsys)
    assert status == 0, err
    (row,) = csv.DictReader(Path("found/predictions.csv").read_text().splitlines())
    assert row["class"] == written["categories"][0]


def test_heads_of_other_classes_predict_under_their_names(published, tmp_path):
    state = create_classifier("van_b0", 3).state_dict()
    torch.save({"state_dict": state}, "three.pth")
    torch.save({"state_dict": state, "meta": {"dataset_meta": {"classes": ["ant", "bee", "fly"]}}}, "named.pth")
    assert engine.Predictor("three.pth").names == ["class 0", "class 1", "class 2"]
    assert engine.Predictor("named.pth").names == ["ant", "bee", "fly"]
    assert engine.Predictor("three.pth", cfg_options={"classes": ["x", "y", "z"]}).names == ["x", "y", "z"]
    with pytest.raises(UserError, match=r"classes has 2 names; allowed: 3, one for each output of three\.pth"):
        engine.Predictor("three.pth", cfg_options={"classes": ["x", "y"]})
    larger = ImageNetInfo("imagenet22k")
    torch.save(create_classifier("van_b0", len(larger.label_names())).state_dict(), "large.pth")
    assert engine.Predictor("large.pth").names[0] == larger.index_to_description(0).split(",")[0]
    assert engine.Predictor("large.pth", cfg_options={"model.class_map": "imagenet1k"}).names[0] == "tench"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("van_b0.in2k", "unknown weights name (and no such file) 'van_b0.in2k'"),
        ("backbone.pth", "backbone.pth carries no config and holds no classifier"),
        ("other.pth", "other.pth carries no config and does not hold all tensors of any known arch"),
        ("absent.pth", "absent.pth"),
        ("photo.png", "photo.png is an image; a file of weights is needed here"),
        (".", ". is a folder; a file of weights is needed here"),
    ],
)
def test_what_cannot_predict_is_named(given, words, published, monkeypatch, capsys):
    torch.save(create_backbone("van_b0").state_dict(), "backbone.pth")
    torch.save({"state_dict": {"conv.weight": torch.zeros(3)}}, "other.pth")
    status, _, err = run(predict, [given, "photo.png", "--device", "cpu"], monkeypatch, capsys)
    assert status == 2 and words in err and err.count("\n") == 1 and "Traceback" not in err


@pytest.mark.parametrize("option", ["--batch-size=0", "--workers=-1"])
def test_bad_numbers_are_named_as_they_were_typed(option, published, monkeypatch, capsys):
    status, _, err = run(predict, ["van_b0.in1k", "photo.png", option], monkeypatch, capsys)
    name, _, value = option.partition("=")
    assert status == 2 and f"{name} is {value}; allowed: integers from" in err


def test_features_take_the_same_names(published, tmp_path, monkeypatch, capsys):
    """Weights alone give the maps of the arch with these weights, into a folder of their own."""
    for argv, folder in (
        (["van_b0.in1k"], "van_b0.in1k"),
        ([(tmp_path / "van.pth").as_uri()], "van"),
        (["van.pth"], f"{tmp_path.name}/van"),
        (["van_b0", "--pretrained", "van.pth"], f"{tmp_path.name}/van"),
        (["van_b0"], "van_b0"),
    ):
        status, _, err = run(extract_features, [argv[0], "photo.png", *argv[1:], "--overwrite"], monkeypatch, capsys)
        assert status == 0, err
        content = json.loads((tmp_path / "work_dirs/features" / folder / "features.json").read_text())
        assert content["arch"] == "van_b0" and content["pretrained"] == (None if argv == ["van_b0"] else argv[-1])
    for argv, words in (
        (["van_b9"], "unknown arch or weights 'van_b9'; nearest: van_b"),
        (["van.pth", "--pretrained", "van.pth"], "are both weights"),
    ):
        status, _, err = run(extract_features, [argv[0], "photo.png", *argv[1:]], monkeypatch, capsys)
        assert status == 2 and words in err


def test_results_of_two_runs_do_not_meet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = {
        "work_dirs/a/epoch_1.pth": "a/epoch_1",
        "work_dirs/b/epoch_1.pth": "b/epoch_1",
        "work_dirs/demo/b/epoch_1.pth": "demo/b/epoch_1",
        "/runs/b/best_top1_epoch_3.pth": "b/best_top1_epoch_3",
        "epoch_1.pth": f"{tmp_path.name}/epoch_1",
        "van_b0.in1k": "van_b0.in1k",
        "https://example.org/van/van-tiny_x.pth": "van-tiny_x",
        "/w.pth": "w",
    }
    assert {weights: str(place_of(weights)) for weights in places} == places


def test_a_test_without_a_config_has_a_folder_of_its_own(tmp_path, monkeypatch):

    root = Path(__file__).resolve().parent.parent
    monkeypatch.chdir(tmp_path)
    cfg = load_config(root / "classification/configs/demo/van_b0_digits.py", {"data_root": "absent"})
    model = task_for(cfg).build_model(cfg)
    own = own_meta(model, None, None, task="classification", classes=[str(i) for i in range(10)], config=cfg.to_dict())
    for name in "ab":
        Path("work_dirs", name).mkdir(parents=True)
        torch.save({"state_dict": model.state_dict(), "meta": {"ziggurat": own}}, f"work_dirs/{name}/epoch_1.pth")
        assert own_testing_config(f"work_dirs/{name}/epoch_1.pth", {})[0].work_dir == f"work_dirs/test/{name}/epoch_1"

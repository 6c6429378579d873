"""Which classes a head in weights has. Published heads have ImageNet's. Other data do not take them over in silence."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import ImageNetInfo

from backbones import UserError
from classification import Classifier, create_classifier
from classification.imagenet import are_imagenet
from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_training

WNIDS = ImageNetInfo().label_names()
WORDS = ImageNetInfo().label_descriptions()
PUBLISHED = "van_tiny_754.pth.tar"  # the name of the authors' file
DEMO = "classification/configs/demo/van_b0_digits.py"


@pytest.fixture
def weights(cut_depths, tmp_path):
    """Weights of 1000 classes without any names, as a published file and as somebody's own."""
    cut_depths("van_b0", (1, 1, 1, 1))
    torch.manual_seed(0)
    state = create_classifier("van_b0").state_dict()
    for name in (PUBLISHED, "mine.pth"):
        torch.save({"state_dict": state}, tmp_path / name)
    torch.save({"state_dict": state, "meta": {"dataset_meta": {"classes": WORDS}}}, tmp_path / "named.pth")
    return state


def start(path, names, **arguments):
    """A classifier of data with these classes, filled from the file, and the texts of its warnings."""
    torch.manual_seed(1)
    clf = Classifier(dict(type="VAN", arch="van_b0", pretrained=str(path)), num_classes=len(names), **arguments)
    clf.class_names = names
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clf.init_weights()
    return clf, [str(one.message) for one in caught]


OTHERS = [f"product {i:04}" for i in range(1000)]
SHUFFLED = [WNIDS[1], WNIDS[0], *WNIDS[2:]]


@pytest.mark.parametrize("file", [PUBLISHED, "named.pth"])
@pytest.mark.parametrize("names", [OTHERS, SHUFFLED, sorted(WORDS)], ids=["others", "shuffled", "sorted words"])
def test_1000_other_classes_are_refused(file, names, weights, tmp_path):
    with pytest.raises(UserError, match=rf"{file} has a head of other classes: its class 0 is .*tench") as error:
        start(tmp_path / file, names)
    assert repr(names[0]) in str(error.value) and "add --reset-head" in str(error.value)
    clf, _ = start(tmp_path / file, names, reset_head=True)
    assert not torch.equal(clf.head.fc.weight, weights["head.fc.weight"])
    assert torch.equal(clf.backbone.state_dict()["stages.0.norm.weight"], weights["backbone.stages.0.norm.weight"])


@pytest.mark.parametrize("file", [PUBLISHED, "named.pth"])
@pytest.mark.parametrize(
    "names",
    [WNIDS, WORDS, [text.split(",")[0].replace(" ", "_") for text in WORDS], [str(i) for i in range(1000)]],
    ids=["synsets", "descriptions", "words", "numbers"],
)
def test_imagenet_keeps_the_head_under_any_of_its_names(file, names, weights, tmp_path):
    clf, said = start(tmp_path / file, names)
    assert torch.equal(clf.head.fc.weight, weights["head.fc.weight"]) and not said


def test_classes_that_nobody_names_get_a_note(weights, tmp_path):
    clf, said = start(tmp_path / "mine.pth", OTHERS)
    assert torch.equal(clf.head.fc.weight, weights["head.fc.weight"])
    assert len(said) == 1 and "mine.pth does not name its 1000 classes" in said[0] and "--reset-head" in said[0]
    assert start(tmp_path / "mine.pth", WNIDS)[1] == []


def test_what_is_no_imagenet():
    assert not are_imagenet(WNIDS[:999]) and not are_imagenet([str(i) for i in range(1, 1001)])
    assert not are_imagenet(SHUFFLED) and not are_imagenet(sorted(WORDS)) and not are_imagenet(OTHERS)


# --- options about a head without weights


@pytest.fixture
def two_classes(tmp_path):
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for i in range(3):
                Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "data" / split / name / f"{i}.png")
    return str(tmp_path / "data")


@pytest.fixture
def build(two_classes, cut_depths, tmp_path, monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    cut_depths("van_b0", (1, 1, 1, 1))

    def built(**options):
        options = {
            "data_root": two_classes,
            "train_dataloader.batch_size": 2,
            "train_dataloader.num_workers": 0,
        } | options
        runner = build_training(load_config(DEMO, options), tmp_path / "run", device="cpu")
        runner.folder.release()
        return runner

    return built


def test_a_new_head_without_weights_gets_a_note(build, capsys):
    build(**{"model.reset_head": True})
    assert "model.reset_head changes nothing, since the run loads no weights" in capsys.readouterr().err


def test_a_class_map_needs_a_head_in_weights(build, tmp_path):
    (tmp_path / "rows.txt").write_text("0 1")
    options = {"model.class_map": str(tmp_path / "rows.txt")}
    with pytest.raises(UserError, match=r"model\.class_map=.*rows\.txt' picks rows .* the run loads no weights; add"):
        build(**options)
    backbone = {"state_dict": create_classifier("van_b0", 2).backbone.state_dict()}
    torch.save(backbone, tmp_path / "backbone.pth")
    with pytest.raises(UserError, match=r"picks rows of a head, and .*backbone\.pth has none"):
        build(**options, **{"model.backbone.pretrained": str(tmp_path / "backbone.pth")}).train()


# --- mixing in pairs


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        ({"batch_size": 3}, r"train_dataloader\.batch_size is 3; allowed with model\.mixup: even numbers"),
        ({"batch_size": 1}, r"train_dataloader\.batch_size is 1; allowed with model\.mixup: even numbers"),
        ({"batch_size": 4, "drop_last": False}, None),
        ({"batch_size": 4, "drop_last": False, "images": 5}, r"drop_last is False, and the last batch has 1 images"),
        ({"batch_size": 4, "drop_last": True, "images": 5}, None),
    ],
)
def test_odd_batches_are_refused_before_mixing(loader, message, build, two_classes):
    loader = dict(loader)
    if loader.pop("images", 6) == 5:
        (Path(two_classes) / "train/dog/2.png").unlink()
    options = {f"train_dataloader.{name}": value for name, value in loader.items()}
    options["model.mixup"] = dict(mixup_alpha=0.8)
    if message is None:
        assert len(build(**options).train_dataloader) > 0
    else:
        with pytest.raises(UserError, match=message):
            build(**options)

"""convert_weights writes a checkpoint in every layout of its family, and each file loads as the same network."""

import subprocess
import warnings

import convert_weights
import pytest
import torch
from conftest import ROOT
from helpers import run
from mmengine.registry import MODELS, init_default_scope

import backbones
from backbones import convert
from backbones.weights import own_meta, read_checkpoint, read_own_meta, save_safely
from classification import create_classifier
from ziggurat.engine.config import load_config

RECIPE = ROOT / "classification/configs/van/van_b0_8xb128_in1k.py"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A VAN-B0 classifier of 7 classes and its file in our layout."""
    torch.manual_seed(0)
    clf = create_classifier("van_b0", num_classes=7)
    path = tmp_path_factory.mktemp("weights") / "ours.pth"
    save_safely(clf.state_dict(), path)
    return clf, path


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("to", ["ziggurat", *convert.sources("van_b0")])
def test_there_and_back(weights, tmp_path, monkeypatch, capsys, to, suffix):
    clf, path = weights
    there, back = tmp_path / f"there{suffix}", tmp_path / "back.safetensors"
    status, out, _ = run(convert_weights, [path, there, "--to", to], monkeypatch, capsys)
    assert status == 0 and f"{to} layout" in out
    assert ("head.fc.weight" in out) == (to in ("official-seg", "mmseg"))  # a backbone's repository has no classifier
    status, out, _ = run(convert_weights, [there, back], monkeypatch, capsys)
    assert status == 0 and f"van_b0, {to} layout" in out
    state = read_checkpoint(back)
    prefix = "" if to in ("official-seg", "mmseg") else "backbone."
    for name, value in clf.backbone.state_dict().items():
        assert torch.equal(state[prefix + name], value), name
    assert not prefix or torch.equal(state["head.fc.weight"], clf.head.fc.weight)


@pytest.mark.parametrize("arch", ["hornet_tiny_gf", "pvig_tiny", "vig_tiny", "vvt_tiny"])
def test_every_family_is_recognised_by_its_tensors(arch, tmp_path, monkeypatch, capsys):
    save_safely(backbones.create_backbone(arch).state_dict(), tmp_path / "ours.pth")
    argv = [tmp_path / "ours.pth", tmp_path / "theirs.pth", "--to", "official"]
    status, out, err = run(convert_weights, argv, monkeypatch, capsys)
    assert status == 0, err
    assert f"{arch}, ziggurat layout" in out and "left out" not in out
    assert backbones.load_weights(backbones.create_backbone(arch), tmp_path / "theirs.pth").source == "official"


@pytest.mark.parametrize("name", ["there.pth", "there.safetensors"])
@pytest.mark.parametrize("to", ["ziggurat", "official", "mmpretrain"])
def test_what_weights_fix_besides_tensors_comes_along_or_is_said(to, name, tmp_path, monkeypatch, capsys):
    clf = create_classifier("van_b0", num_classes=2, norm_eps=1e-4, in_chans=4)
    own = own_meta(clf, [0.1] * 4, [0.2] * 4, task="classification", classes=["a", "b"])
    save_safely({"state_dict": clf.state_dict(), "meta": {"ziggurat": own}}, tmp_path / "own.pth")
    argv = [tmp_path / "own.pth", tmp_path / name, "--to", to]
    status, out, _ = run(convert_weights, argv, monkeypatch, capsys)
    assert status == 0
    if to == "ziggurat" or name.endswith(".safetensors"):
        assert read_own_meta(read_checkpoint(tmp_path / name)) == own and "has no place for:" not in out
        again = create_classifier(pretrained=tmp_path / name)
        assert again.backbone.arguments() == clf.backbone.arguments() and again.num_classes == 2
    else:
        line = next(line for line in out.splitlines() if line.startswith(f"the {to} layout has no place for"))
        implied = {"official": 1e-6, "mmpretrain": 1e-5}[to]
        assert "mean [0.1, 0.1, 0.1, 0.1]" in line
        assert f"norm_eps 0.0001, where the {to} layout implies {implied}" in line


def test_a_backbone_alone_has_no_task(tmp_path, monkeypatch, capsys):
    """Neither the backbone of a detector, nor a classifier in a layout without a head."""
    clf = create_classifier("van_b0", num_classes=2, norm_eps=1e-4)
    detector = torch.nn.Module()
    detector.backbone, detector.neck = backbones.create_backbone("van_b0", norm_eps=1e-4), torch.nn.Linear(2, 2)
    for model, task, to in ((detector, "detection", "ziggurat"), (clf, "classification", "official-seg")):
        own = own_meta(model, [0.1] * 3, [0.2] * 3, task=task, classes=["a", "b"], config={"model": {}})
        path, written = tmp_path / f"{task}.pth", tmp_path / f"{task}.safetensors"
        save_safely({"state_dict": model.state_dict(), "meta": {"ziggurat": own}}, path)
        assert run(convert_weights, [path, written, "--to", to], monkeypatch, capsys)[0] == 0
        assert read_own_meta(read_checkpoint(written)) == own | {"task": None, "classes": None, "config": None}


def test_the_wanted_one_of_two_sets_is_written(tmp_path, monkeypatch, capsys):
    raw, ema = backbones.create_backbone("van_b0"), backbones.create_backbone("van_b0")
    torch.save({"model": raw.state_dict(), "model_ema": ema.state_dict()}, tmp_path / "two.pth")
    for name, which, place, net in (("a.pth", [], "model_ema", ema), ("b.pth", ["--which", "raw"], "model", raw)):
        with warnings.catch_warnings(record=True):
            status, out, _ = run(convert_weights, [tmp_path / "two.pth", tmp_path / name, *which], monkeypatch, capsys)
        assert status == 0 and f"tensors in {place}\n" in out
        weight = backbones.create_backbone(pretrained=tmp_path / name).stem.conv.weight
        assert torch.equal(weight, net.stem.conv.weight)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["{ours}", "{ours}"], ["exists"]),
        (["{ours}", "new.bin"], ["new.bin", ".safetensors"]),
        (["{ours}", "new.pth", "--to", "official-det"], ["official-det", "official-seg", "mmpretrain"]),
        (["{ours}", "new.pth", "--arch", "resnet50"], ["unknown arch 'resnet50'"]),
        (["{ours}", "new.pth", "--arch", "van_b1"], ["does not fit van_b1", "it fits van_b0"]),
        (["{other}", "new.pth"], ["other.pth does not hold", "any known arch"]),
        (["absent.pth", "new.pth"], ["no such checkpoint file", "absent.pth"]),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(argv, words, weights, tmp_path, monkeypatch, capsys):
    save_safely({"conv.weight": torch.ones(1)}, tmp_path / "other.pth")
    before = weights[1].read_bytes()
    monkeypatch.chdir(tmp_path)
    argv = [str(a).format(ours=weights[1], other=tmp_path / "other.pth") for a in argv]
    status, out, err = run(convert_weights, argv, monkeypatch, capsys)
    assert (status, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and all(word in err for word in words), err
    assert weights[1].read_bytes() == before and not (tmp_path / "new.pth").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint of a run here, with averaged weights in the first place, as mmengine's EMAHook keeps them."""
    cfg = load_config(RECIPE, {"data_root": "nowhere"})
    averaged, raw = (create_classifier("van_b0", num_classes=3) for _ in range(2))
    own = own_meta(
        averaged, [0.5] * 3, [0.5] * 3, task="classification", classes=["ant", "bee", "cow"], config=cfg.to_dict()
    )
    content = {
        "meta": {
            "ziggurat": own,
            "epoch": 7,
            "iter": 91,
            "seed": 4,
            "experiment_name": "my_run_0123abcd_20261126_101010",
        },
        "state_dict": averaged.state_dict(),
        "ema_state_dict": {f"module.{name}": value for name, value in raw.state_dict().items()}
        | {"steps": torch.tensor(7)},
        "message_hub": {"runtime_info": {"best_score": 76.54321}},
    }
    path = tmp_path_factory.mktemp("trained") / "epoch_7.pth"
    save_safely(content, path)
    return path, averaged, raw


@pytest.mark.parametrize(("options", "which"), [([], "averaged"), (["--which", "raw"], "trained")])
def test_a_published_file_is_named_after_its_content(trained, options, which, tmp_path, monkeypatch, capsys):
    path, averaged, raw = trained
    status, _, err = run(convert_weights, [path, tmp_path / "out", "--publish", *options], monkeypatch, capsys)
    assert status == 0, err
    card, file = sorted((tmp_path / "out").iterdir())
    summed = subprocess.run(["sha256sum", file], capture_output=True, text=True, check=True).stdout.split()[0]
    assert file.name == f"my_run-{summed[:8]}.safetensors" and card.name == f"my_run-{summed[:8]}.md"
    wanted = raw if which == "trained" else averaged
    again = create_classifier(pretrained=file)
    for name, value in wanted.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    text = card.read_text()
    for words in (which, summed, "3 classes: ant, bee, cow", "7 of 310 epochs; 91 iterations", "lr 0.001", "seed 4"):
        assert words in text, words
    assert "| best | top1 76.54 |" in text and "crop_pct 0.9" in text and file.name in text
    assert read_own_meta(read_checkpoint(file))["classes"] == ["ant", "bee", "cow"]


def test_a_published_backbone_has_no_head_and_dense_tasks_load_it(trained, tmp_path, monkeypatch, capsys):
    path, averaged, _ = trained
    argv = [path, tmp_path, "--publish", "--backbone", "--name", "ants"]
    status, _, err = run(convert_weights, argv, monkeypatch, capsys)
    assert status == 0, err
    file = next(tmp_path.glob("ants-????????.safetensors"))
    assert "none, the backbone alone" in file.with_suffix(".md").read_text()
    assert read_own_meta(read_checkpoint(file))["classes"] is None
    leaf = ROOT / "detection/configs/van/mask_rcnn_van_b0_fpn_1x_coco.py"
    cfg = load_config(leaf, {"model.backbone.pretrained": str(file)})
    init_default_scope("mmdet")
    net = MODELS.build(cfg.model.backbone)
    net.init_weights()
    for name, value in averaged.backbone.state_dict().items():
        assert torch.equal(net.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["out", "--publish", "--to", "official"], "--publish writes our layout, and --to is 'official'"),
        (["out", "--publish", "--name", "a/b"], "--name is 'a/b'; allowed: letters, digits"),
        (["out.pth", "--name", "a"], "--name belongs to --publish"),
    ],
)
def test_bad_options_of_publishing(trained, argv, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    status, _, err = run(convert_weights, [trained[0], *argv], monkeypatch, capsys)
    assert status == 2 and message in err and list(tmp_path.iterdir()) == []

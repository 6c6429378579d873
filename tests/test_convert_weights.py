"""convert_weights writes a checkpoint in every layout of its family, and each file loads as the same network."""

import warnings

import convert_weights
import pytest
import torch
from helpers import run

import backbones
from backbones import convert
from backbones.weights import own_meta, read_checkpoint, read_own_meta, save_safely
from classification import create_classifier


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

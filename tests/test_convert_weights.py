"""convert_weights rewrites a checkpoint in every layout of its family, and what it writes loads as the same network."""

import convert_weights
import pytest
import torch
from helpers import run

import backbones
from backbones import convert
from backbones.weights import read_checkpoint, save_safely
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


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["{ours}", "{ours}"], ["exists"]),
        (["{ours}", "new.bin"], ["new.bin", ".safetensors"]),
        (["{ours}", "new.pth", "--to", "official-det"], ["official-det", "official-seg", "mmpretrain"]),
        (["{ours}", "new.pth", "--arch", "resnet50"], ["unknown arch 'resnet50'"]),
        (["{ours}", "new.pth", "--arch", "van_b1"], ["does not fit van_b1", "it fits van_b0"]),
        (["{other}", "new.pth"], ["other.pth holds", "no known arch"]),
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

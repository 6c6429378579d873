"""8-bit copies of ONNX files: all families can be quantised, results agree with PyTorch's, and others are not kept.

They need ONNX Runtime, and are run where it is installed. What needs nothing is first.
"""

import export
import numpy as np
import pytest
import torch
from helpers import SMALL, run, trained_norms
from PIL import Image

from backbones import UserError
from backbones.export import Description, Exported, Extent, prepared, record, write
from classification import create_classifier
from ziggurat.engine import int8
from ziggurat.engine.photographs import batch_of, photographs


def images_in(folder, count):
    paths = [folder / f"{i:03}.png" for i in range(count)]
    for path in paths:
        Image.effect_noise((32, 32), 50).save(path)
    return paths


def test_calibration_images_are_spread_evenly(tmp_path):
    paths = images_in(tmp_path, 100)
    found = int8.chosen(paths, 10)
    assert found == paths[::10]
    assert int8.chosen(paths, 1000) == paths
    with pytest.raises(UserError, match="the calibration has 7 images; allowed: 8 or more"):
        int8.chosen(paths[:7], 128)
    with pytest.raises(UserError, match=r"no such image for the calibration: .*absent\.png"):
        int8.chosen([*paths, tmp_path / "absent.png"], 128)


def test_damaged_images_are_named_and_do_not_count(tmp_path, capsys):
    paths = images_in(tmp_path, 12)
    for path in (paths[0], paths[5]):
        path.write_bytes(path.read_bytes()[:300])
    found = int8.chosen(paths, 10)
    assert found == [path for path in paths if path not in (paths[0], paths[5])]
    note = f"note: the calibration has 10 images that can be read, without {paths[0]}, {paths[5]}\n"
    assert capsys.readouterr().err == note
    with pytest.raises(UserError, match=r"has 7 images that can be read, without .*000\.png, .*005\.png;"):
        int8.chosen(paths[:9], 10)
    assert capsys.readouterr().err == ""


def test_agreement_is_the_share_of_equal_classes_or_the_cosine_of_maps():
    scores = torch.tensor([[0.0, 1.0], [2.0, 1.0], [5.0, 0.0], [0.0, 3.0]])
    flipped = scores.clone()
    flipped[0] = scores[0].flip(0)
    assert int8.agreement_of("classification", [flipped], [scores]) == 0.75
    maps = [torch.rand(2, 8, 4, 4) for _ in range(2)]
    assert int8.agreement_of("backbone", [2 * level for level in maps], maps) == pytest.approx(1, abs=1e-5)
    assert int8.agreement_of("backbone", [-maps[0], maps[1]], maps) == pytest.approx(0, abs=1e-5)


def test_images_that_the_model_does_not_take_are_named_and_do_not_count(tmp_path, capsys):
    def prepare(path):
        if path.name == "003.png":
            raise UserError("003.png is 1x1")

    paths = images_in(tmp_path, 9)
    assert int8.chosen(paths, 10, prepare) == [*paths[:3], *paths[4:]]
    assert "the calibration has 8 images that can be read, without " in capsys.readouterr().err
    with pytest.raises(UserError, match=r"has 7 images that can be read, without .*003\.png; allowed: 8 or more"):
        int8.chosen(paths[:8], 10, prepare)


@pytest.fixture
def onnx():
    pytest.importorskip("onnxruntime")
    return pytest.importorskip("onnx")


@pytest.mark.parametrize("arch", SMALL)
def test_each_family_can_be_quantised(arch, tiny, onnx, tmp_path):
    """The graphs' distances and the Fourier transform stay in float32."""
    from backbones.export.int8 import quantise

    net, extent = prepared(trained_norms(tiny(arch))), Extent((96, 96), 1, ("batch",))
    described = Description("backbone", arch, tuple("abcd"), *extent, "float32", (0.5,) * 3, (0.5,) * 3, "", None)
    write(record(net, extent), "onnx", tmp_path / "x.onnx", described)
    images = batch_of(photographs()[0], (4, 3, 96, 96), described.mean, described.std)
    quantise(tmp_path / "x.onnx", tmp_path / "y.onnx", described._replace(quantised="int8"), images.split(1)[:3])
    file = Exported(tmp_path / "y.onnx")
    assert file.description.quantised == "int8" and file.description.arch == arch
    with torch.no_grad():
        assert int8.agreement_of("backbone", file(images), net(images)) > (0.8 if "vig" in arch else 0.97)
    assert (tmp_path / "y.onnx").stat().st_size < 0.5 * (tmp_path / "x.onnx").stat().st_size
    nodes = {node.op_type: node for node in onnx.load(tmp_path / "y.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= nodes.keys()


@pytest.mark.parametrize("least", [0.0, 1.1])
def test_a_copy_is_kept_if_it_agrees(least, onnx, tmp_path, monkeypatch, capsys, cut_depths):
    cut_depths("van_b0", (1, 1, 1, 1))
    monkeypatch.setattr(int8, "AGREEMENT", least)
    clf = trained_norms(create_classifier("van_b0", num_classes=1000)).eval()
    torch.save({"state_dict": clf.state_dict()}, tmp_path / "mine.pth")
    (tmp_path / "photos").mkdir()
    for i in range(9):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).resize((80, 64)).save(tmp_path / "photos" / f"{i}.png")
    argv = [tmp_path / "mine.pth", "--int8", "--calibration", tmp_path / "photos", "--size", "224"]
    status, out, err = run(export, [*argv, "--repeats", "1", "--out", tmp_path / "out"], monkeypatch, capsys)
    kept = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert "onnx int8" in out
    if least < 1:
        assert (status, err) == (0, "") and "on images that the calibration did not see" in out
        assert kept == ["mine.int8.onnx", "mine.int8.onnx.json", "mine.onnx", "mine.onnx.json"]
        assert Exported(tmp_path / "out/mine.int8.onnx").description.quantised == "int8, 6 images"
        status, _, err = run(export, [*argv, "--out", tmp_path / "out"], monkeypatch, capsys)
        assert status == 2 and "exists; allowed: another --out, or --overwrite" in err
    else:
        assert status == 2 and err.startswith("error: onnx int8 was not kept: int8: a share of")
        assert kept == ["mine.onnx", "mine.onnx.json"]

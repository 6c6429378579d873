"""model_info counts the published figures. extract_features writes the extractor's maps, and names bad files."""

import json

import benchmark_ops
import export
import extract_features
import model_info
import numpy as np
import predict
import pytest
import torch
from helpers import run
from PIL import Image

from backbones import FeatureExtractor, UserError, create_backbone, list_archs
from ziggurat.engine.cli import run_tool

# Parameters without the head (millions), and multiply-adds of the classifier at 224x224 (G) as mmpretrain@ee7f2e8
# counts them, configs/van/README.md: norms and activations included, which adds up to 2 %.
PUBLISHED = {"van_b0": (3.849, 0.88), "van_b1": (13.349, 2.52), "van_b2": (26.065, 5.03), "van_b3": (44.253, 8.99)}


@pytest.mark.parametrize("arch", PUBLISHED)
def test_counts_are_the_published_ones(arch):
    row = model_info.model_info(arch, 224, 224)
    params, macs = PUBLISHED[arch]
    assert row["params"] / 1e6 == pytest.approx(params, abs=1e-3)
    assert row["macs"] / 1e9 == pytest.approx(macs, rel=0.02)


def test_table_of_models_is_the_generated_one(monkeypatch, capsys, request):
    """docs/models.md holds every arch, and each figure more than 2 % from a published one has its reason."""
    kept = (request.config.rootpath / "docs/models.md").read_text()
    status, out, _ = run(model_info, ["--published"], monkeypatch, capsys)
    assert status == 0 and out == kept
    assert "unexplained" not in kept and all(f"| {arch} |" in kept for arch in list_archs())


def test_counted_maps_are_the_computed_ones():
    row = model_info.model_info("van_b0", 75, 130, out_indices=(1, 3))
    maps = create_backbone("van_b0", out_indices=(1, 3)).eval()(torch.zeros(1, 3, 75, 130))
    assert [[m["channels"], m["height"], m["width"]] for m in row["maps"]] == [list(m.shape[1:]) for m in maps]
    assert [m["stride"] for m in row["maps"]] == [8, 32]


def test_model_info_prints_a_table_and_json(monkeypatch, capsys):
    status, out, _ = run(model_info, ["van_b[01]", "--size", "64", "96"], monkeypatch, capsys)
    assert status == 0 and "van_b0" in out and "256/32 (2x3)" in out and "van_b2" not in out
    status, out, _ = run(model_info, ["van_b0", "--json"], monkeypatch, capsys)
    assert json.loads(out)[0]["maps"][3] == {"channels": 256, "stride": 32, "height": 7, "width": 7}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["van_b9"], ["van_b9", "van_b6"]),
        (["van_b0", "--size", "16"], ["16x16", "32x32"]),
        (["van_b0", "--out-indices", "7"], ["out_indices", "7"]),
        (["van_b0", "--size", "1", "2", "3"], ["--size"]),
    ],
)
def test_model_info_names_mistakes(argv, words, monkeypatch, capsys):
    status, out, err = run(model_info, argv, monkeypatch, capsys)
    assert (status, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and all(word in err for word in words), err


def test_extracted_maps_are_the_extractors(tmp_path, monkeypatch, capsys):
    torch.manual_seed(0)
    torch.save(create_backbone("van_b0").state_dict(), tmp_path / "w.pth")
    for i, folder in enumerate(("a", "b")):
        (tmp_path / folder).mkdir()
        pixels = np.random.default_rng(i).integers(0, 256, (40 + i, 64, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / folder / "x.png")
    argv = [
        "van_b0",
        tmp_path / "a",
        tmp_path / "b",
        "--pretrained",
        tmp_path / "w.pth",
        "--out-indices",
        0,
        3,
        "--pca",
    ]
    status, out, err = run(extract_features, [*argv, "--out", tmp_path / "out"], monkeypatch, capsys)
    assert (status, err) == (0, "")
    index = json.loads((tmp_path / "out/features.json").read_text())
    assert index["strides"] == {"stage0": 4, "stage3": 32}
    assert index["statistics"]["mean"] == [0.5] * 3 and index["statistics"]["source"] in out
    extractor = FeatureExtractor("van_b0", (0, 3), tmp_path / "w.pth")
    for row in index["images"]:
        arrays = np.load(tmp_path / "out" / row["file"])
        for name, expected in zip(("stage0", "stage3"), extractor(row["image"]), strict=True):
            np.testing.assert_allclose(arrays[name], expected[0], rtol=1e-5, atol=1e-5)
    assert len(list((tmp_path / "out").glob("*_pca.png"))) == 2


def test_unreadable_images_are_skipped_and_named(tmp_path, monkeypatch, capsys):
    Image.effect_noise((64, 64), 50).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes((tmp_path / "good.png").read_bytes()[:900])
    Image.new("RGB", (64, 20)).save(tmp_path / "small.png")
    argv = ["van_b0", tmp_path, tmp_path / "absent.png", "--out", tmp_path / "out"]
    status, out, err = run(extract_features, argv, monkeypatch, capsys)
    assert status == 1 and "1 of 4 images" in out
    skipped = [line for line in err.splitlines() if line.startswith("skipped: ")]
    assert all(any(name in line for line in skipped) for name in ("bad.png", "small.png", "absent.png"))
    assert (tmp_path / "out/good.npz").is_file()
    for name in ("good.npz", "features.json"):  # whoever made them
        before = (tmp_path / "out" / name).read_bytes()
        (tmp_path / "out" / name).write_text("mine")
        status, _, err = run(extract_features, argv, monkeypatch, capsys)
        assert status == 2 and "already; allowed: another --out, or --overwrite" in err and err.count("\n") < 3
        assert (tmp_path / "out" / name).read_text() == "mine"
        (tmp_path / "out" / name).write_bytes(before)
    assert run(extract_features, [*argv, "--overwrite"], monkeypatch, capsys)[0] == 1


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["van_b0", "EMPTY"], "no images in"),
        (["absent.onnx", "GOOD"], "no such exported file: absent.onnx"),
        (["van_b0", "absent/"], "no such file or folder: absent/; allowed: files, folders"),
        (["van_b0", "absent.png", "gone"], "no such file or folder: absent.png, gone; allowed"),
        (["van_b0", "GOOD", "--device", "cuda:77"], "cuda:77"),
        (["van_b0", "GOOD", "--pretrained", "absent.pth"], "absent.pth"),
        (["van_b0", "GOOD", "--out-indices", "4"], "out_indices"),
        (["van_b0", "GOOD", "--short-side", "-5"], "short_side is -5; allowed: integers from 32 up"),
        (["van_b0", "GOOD", "--short-side", "0"], "short_side is 0; allowed: integers from 32 up"),
    ],
)
def test_extract_features_names_mistakes(argv, words, tmp_path, monkeypatch, capsys):
    (tmp_path / "EMPTY").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "GOOD", "PNG")
    argv = [tmp_path / a if a in ("EMPTY", "GOOD") else a for a in argv]
    status, _, err = run(extract_features, [*argv, "--out", tmp_path / "out"], monkeypatch, capsys)
    assert status == 2 and words in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_benchmark_compares_before_it_times(tmp_path, monkeypatch, capsys):
    """A fast path that is wrong shows as an error, one that does more work as a ratio below 1."""

    def slow_and_wrong(x):
        return sum(x.cos() for _ in range(50))

    case = benchmark_ops.Case("cosine", lambda: (torch.randn(200, 200),), torch.cos, slow_and_wrong)
    monkeypatch.setattr(benchmark_ops, "cases", lambda _: [case, case._replace(fast=torch.cos)])
    status, out, _ = run(benchmark_ops, ["--repeats", 5, "--out", tmp_path / "b.json"], monkeypatch, capsys)
    wrong, right = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert status == 0 and out.count("cosine") == 2
    assert wrong["relative_error"] == pytest.approx(49, rel=1e-3) and right["relative_error"] == 0
    assert wrong["forward"]["ratio"] < 0.5 and wrong["training"]["ratio"] < 0.5


def test_a_defect_of_ours_still_shows_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_tool(lambda: 1 / 0)
    with pytest.raises(SystemExit) as stop:
        run_tool(lambda: (_ for _ in ()).throw(UserError("a is 1; allowed: 2")))
    assert stop.value.code == 2


@pytest.mark.parametrize("tool, words", [(model_info, []), (predict, ["x.png"]), (export, ["--format", "pt2"])])
def test_a_mistyped_name_of_a_config_is_told_from_archs_and_weights(tool, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64)).save("x.png")
    name = "mask_rcnn_van_b2_fpn_1x_coc"
    status, _, err = run(tool, [name, *words], monkeypatch, capsys)
    assert status == 2 and f"no such config: {name}; nearest: mask_rcnn_van_b2_fpn_1x_coco" in err

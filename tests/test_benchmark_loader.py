"""The loader's benchmark times every step once, compares what could replace a step, and becomes tables."""

import json

import benchmark_backbones
import benchmark_loader
import pytest
from helpers import run
from PIL import Image


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


def test_figures_and_tables(tmp_path, monkeypatch, capsys):
    argv = ["--images", 4, "--repeats", 1, "--size", "900x1200", "--out", tmp_path / "loader.json"]
    status, out, err = run(benchmark_loader, argv, monkeypatch, capsys)
    assert (status, err) == (0, "") and "images/s per core" in out
    report = json.loads((tmp_path / "loader.json").read_text())
    assert (report["images"]["width"], report["images"]["height"]) == (1200, 900)
    assert list(report["steps"])[:2] == ["read and decode", "RandomResizedCropAndInterpolation"]
    assert all(ms > 0 for ms in report["steps"].values()) and all(speed > 0 for speed in report["loader"].values())
    effects = {row["name"]: row["effect"] for row in report["tried"]}
    assert effects["decode by torchvision"] == effects["decode by OpenCV"] == "the same pixels"
    status, out, _ = run(benchmark_backbones, ["--tables", tmp_path], monkeypatch, capsys)
    assert (
        status == 0
        and "## Data loader, " in out
        and f"| read and decode | {report['steps']['read and decode']:.2f} |" in out
    )


def test_a_difference_is_measured_in_levels():
    black, grey = Image.new("RGB", (4, 4)), Image.new("RGB", (4, 4), (0, 0, 30))
    assert benchmark_loader.described([grey], [black]) == "off by 10 of 255 on average, 30 at most"
    assert benchmark_loader.described([black], [black]) == "the same pixels"


def test_files_lie_as_imagenets_and_differ(tmp_path):
    paths = benchmark_loader.write_images(tmp_path, 5, (64, 48))
    assert len({path.read_bytes() for path in paths}) == 5
    assert Image.open(paths[0]).size == (64, 48) and paths[0].parent.parent == tmp_path / "train"

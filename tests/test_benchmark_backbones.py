"""The benchmark compares outputs before it times, names a missing package, and makes tables of its JSON files."""

import json
import sys
from types import SimpleNamespace

import benchmark_backbones
import pytest
import torch
from benchmark_peers import make_peer
from helpers import run

from backbones import UserError, create_backbone
from backbones.vvt import VVT
from ziggurat.engine.memory import peak_of_tensors


@pytest.fixture
def small(monkeypatch):
    row = VVT.ARCHS["vvt_tiny"]._replace(depths=(1, 1, 1, 1), embed_dims=(16, 32, 40, 64))
    monkeypatch.setattr(VVT, "ARCHS", VVT.ARCHS | {"vvt_tiny": row})


class Here:
    """A pool that computes in this process, where the small arch is known."""

    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def apply(self, function, args):
        return function(*args)


@pytest.mark.parametrize("alone", [False, True])
def test_figures_and_tables(small, alone, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark_backbones.multiprocessing, "get_context", lambda _: SimpleNamespace(Pool=Here))
    argv = ["vvt_tiny", "--sizes", "64x96", "32x32", "--batch", 2, "--repeats", 2, "--threads", 1]
    argv += ["--out", tmp_path / "cpu.json", *(["--alone"] if alone else [])]
    status, out, err = run(benchmark_backbones, argv, monkeypatch, capsys)
    assert (status, err) == (0, "") and out.count("vvt_tiny") == 2
    report = json.loads((tmp_path / "cpu.json").read_text())
    for row, size in zip(report["rows"], ([64, 96], [32, 32]), strict=True):
        assert row["size"] == size
        names = ["ours"] if alone else ["peer", "ours"]
        assert list(row["training"]) == names
        assert list(row["inference"]) == [*names, "fused", *([] if alone else ["bound"])]
        assert alone or row["relative_difference"] < 1e-6
        assert alone or list(row["apart"]["inference"]) == ["peer", "ours", "fused"]
        found = [*row["inference"].values(), *row["training"].values()]
        assert all(of["ms"] > 0 and of["mib"] > 0 for of in found)
    assert report["rows"][0]["training"]["ours"]["mib"] > report["rows"][1]["training"]["ours"]["mib"]
    for bound in (True, False):  # that of a GPU is not measured
        for row in report["rows"]:
            row["inference"] = {name: found for name, found in row["inference"].items() if bound or name != "bound"}
        (tmp_path / "cpu.json").write_text(json.dumps(report))
        status, out, _ = run(benchmark_backbones, ["--tables", tmp_path], monkeypatch, capsys)
        assert status == 0 and out.count("| vvt_tiny | ") == 2 and "| 64x96 | " in out
        assert len({line.count("|") for line in out.splitlines() if line.startswith("|")}) == 1


def test_different_outputs_are_not_timed(small, monkeypatch):
    monkeypatch.setattr(benchmark_backbones, "difference", lambda *_: 0.5)
    args = SimpleNamespace(device="cpu", threads=1, batch=1, alone=False)
    with pytest.raises(UserError, match="vvt_tiny: outputs differ by 5"):
        benchmark_backbones.measure("vvt_tiny", 64, 64, args)


def test_memory_is_what_the_call_holds_at_most():
    def call():
        a = torch.empty(1 << 20)  # 4 MiB
        b = a + 1
        del a
        return b * 2

    assert peak_of_tensors(call, torch.device("cpu")) == pytest.approx(8 << 20, rel=0.01)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["van_b9"], "van_b9"),
        (["--sizes", "224"], "--sizes"),
        (["van_b0", "--device", "nowhere"], "nowhere"),
        (["van_b0", "--precision", "fp8"], "fp8"),
        (["van_b0", "--repeats", 0], "--repeats"),
        (["van_b0", "--out", "a/folder/"], "a/folder"),
    ],
)
def test_mistakes_are_named(argv, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a/folder").mkdir(parents=True)
    status, _, err = run(benchmark_backbones, argv, monkeypatch, capsys)
    assert status == 2 and words in err and err.count("\n") == 1


def test_a_missing_peer_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mmpretrain", None)
    monkeypatch.setitem(sys.modules, "mmpretrain.models", None)
    with pytest.raises(UserError, match="make bench installs it"):
        make_peer(create_backbone("van_b0"))

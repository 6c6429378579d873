"""The loop's benchmark: the share of a step that is not computing, as JSON and as a table."""

import json

import benchmark
import benchmark_loop
import pytest
from helpers import run


def test_figures_and_table(tmp_path, monkeypatch, capsys, request, cut_depths):
    monkeypatch.chdir(request.config.rootpath)
    cut_depths("van_b0", (1, 1, 1, 1))
    argv = ["--batch", 2, "--steps", 2, "--size", 32, "--out", tmp_path / "loop.json"]
    status, out, err = run(benchmark_loop, argv, monkeypatch, capsys)
    assert (status, err) == (0, "")
    figures = json.loads((tmp_path / "loop.json").read_text())["loop"]
    assert 0 < figures["overhead_ms"] < figures["step_ms"]
    assert figures["overhead"] == pytest.approx(figures["overhead_ms"] / figures["step_ms"])
    status, out, _ = run(benchmark, ["--tables", tmp_path], monkeypatch, capsys)
    assert status == 0 and f"| {figures['step_ms']:.0f} | {figures['overhead_ms']:.1f} |" in out

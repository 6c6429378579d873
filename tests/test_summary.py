"""The summary of a run reads its scalars, those of the runs that it resumes too, and draws averaged beside trained."""

import json

import numpy as np
import pytest
from PIL import Image

from ziggurat.engine.summary import draw_curves, page, read_curves


@pytest.fixture
def work_dir(tmp_path):
    """A run of epochs of four batches that was killed in its second epoch, and the run that went on."""
    first = [
        {"lr": 0.1, "loss": 2.0, "time": 0.5, "epoch": 1, "iter": 2, "step": 2},
        {"lr": 0.2, "loss": 1.5, "time": 0.5, "epoch": 1, "iter": 4, "step": 4},
        {"top1": 50.0, "raw_top1": 40.0, "data_time": 0.1, "time": 0.2, "step": 1},
        {"lr": 0.3, "loss": 9.0, "time": 0.5, "epoch": 2, "iter": 6, "step": 6},
    ]
    second = [
        {"lr": 0.3, "loss": 1.0, "time": 0.5, "epoch": 2, "iter": 6, "step": 6},
        {"top1": 70.0, "raw_top1": 65.0, "data_time": 0.1, "time": 0.2, "step": 2},
    ]
    for name, lines, tail in (("20260101_000000", first, '{"lr": 0.'), ("20260102_000000", second, "")):
        folder = tmp_path / name / "vis_data"
        folder.mkdir(parents=True)
        (folder / "scalars.json").write_text("".join(f"{json.dumps(line)}\n" for line in lines) + tail)
    return tmp_path


def test_curves_go_on_where_a_run_was_resumed(work_dir):
    assert read_curves(work_dir, 4) == {
        "lr": {0.5: 0.1, 1.0: 0.2, 1.5: 0.3},
        "loss": {0.5: 2.0, 1.0: 1.5, 1.5: 1.0},
        "top1": {1.0: 50.0, 2.0: 70.0},
        "raw_top1": {1.0: 40.0, 2.0: 65.0},
    }
    assert list(read_curves(work_dir)["loss"]) == [2.0, 4.0, 6.0]
    assert read_curves(work_dir / "nowhere") == {}


def test_a_panel_for_each_curve_and_both_kinds_of_weights_in_one(work_dir, tmp_path):
    figure = draw_curves(read_curves(work_dir, 4), "epoch")
    assert [axes.get_title() for axes in figure.axes] == ["loss", "lr", "top1"]
    assert [line.get_label() for line in figure.axes[2].lines] == ["averaged", "trained"]
    np.testing.assert_array_equal(figure.axes[2].lines[1].get_ydata(), [40, 65])
    figure.savefig(tmp_path / "summary.png")
    assert Image.open(tmp_path / "summary.png").width == 1200


def test_the_page_has_the_last_and_the_extreme_values(work_dir):
    text = page("a <b>", "2 of 2 epochs", read_curves(work_dir, 4))
    assert "<title>a &lt;b&gt;</title>" in text
    assert "<tr><td>top1</td><td>70</td><td>50</td><td>70</td></tr>" in text
    assert "<tr><td>loss</td><td>1</td><td>1</td><td>2</td></tr>" in text

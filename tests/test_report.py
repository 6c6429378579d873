"""The demo's report: one page with all its pictures and the given figures, which names no other host."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from backbones import UserError
from tools.demo import report

FIGURES = {
    "classification": {"top1": 97.25},
    "detection": {
        "pretrained": {"bbox_AP50": 0.731, "bbox_AP": 0.512, "segm_AP50": 0.722, "segm_AP": 0.451},
        "scratch": {"bbox_AP50": 0.123, "bbox_AP": 0.044, "segm_AP50": 0.105, "segm_AP": 0.033},
    },
    "segmentation": {"pretrained": {"mIoU": 0.687}, "scratch": {"mIoU": 0.246}},
    "seconds": {"pretrain": 150.0, "detection": 201.5, "total": 351.5},
    "versions": {"python": "3.11.7", "torch": "2.14.1"},
}
TITLES = {"pretrain": "pretrain VAN-B0", "detection": "fine-tune <Mask R-CNN>", "report": "write the report"}
CURVES = [
    {"title": "box AP50", "series": {"pretrained": [(10, 0.2), (20, 0.731)], "scratch": [(10, 0.0), (20, 0.123)]}},
    {"title": "nothing was logged", "series": {"pretrained": [], "scratch": []}},
]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    report.write_report(folder, FIGURES, TITLES, CURVES, pictures())
    return folder


def pictures():
    rng = np.random.default_rng(0)

    def picture(height, width):
        return Image.fromarray(rng.integers(0, 255, (height, width, 3), np.uint8))

    pair = (picture(40, 40), picture(48, 40))
    stages = [picture(side, side) for side in (16, 8, 4, 2)]
    return {"detection": [pair, pair], "segmentation": [pair], "features": [(picture(64, 64), stages)]}


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.sources, self.text, self.open = [], [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.text).split())

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href", "data", "srcset")]
        self.open += [] if tag in ("meta", "img", "link") else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_json_is_what_was_measured(out):
    assert json.loads((out / "report.json").read_text()) == FIGURES


def test_page_is_well_formed_and_says_the_figures(out):
    page = Page((out / "report.html").read_text())
    assert not page.open
    for figure in ("97.2 %", "0.731", "0.123", "0.722", "0.687", "0.246", "+0.608", "5 min 51 s", "torch 2.14.1"):
        assert figure in page.text, figure
    assert "fine-tune <Mask R-CNN>" in page.text
    assert "write the report" not in page.text, "a step without seconds"
    assert "nothing was logged" not in page.text


def test_page_holds_its_pictures_and_reaches_for_nothing(out):
    text = (out / "report.html").read_text()
    sources = Page(text).sources
    assert len(sources) == 2 * 2 + 2 * 1 + 5
    assert all(source.startswith("data:image/") for source in sources)
    assert not re.findall(r"(?i)https?://|url\(|@import|<script|<link", text)


def test_readme_picture_is_small(out):
    path = out / "readme.jpg"
    assert Image.open(path).width > 1000
    assert path.stat().st_size < 300_000


def test_lines_end_at_their_last_value():
    series = {"pretrained": [(0, 0.0), (50, 1.0), (100, 2.0)], "scratch": [(0, 0.0), (100, 0.5)]}
    svg = report.line_chart(series, width=420, height=220)
    lines = [
        [tuple(map(float, point.split(","))) for point in points.split()]
        for points in re.findall(r'<polyline points="([^"]+)"', svg)
    ]
    (a, b, c), (d, e) = lines
    assert a == d and c[0] == e[0] > b[0] == (a[0] + c[0]) / 2
    assert b[1] == pytest.approx((a[1] + c[1]) / 2)
    assert c[1] < e[1] < a[1], "larger values are higher"
    assert ">2.00</text>" in svg and ">0.50</text>" in svg


@pytest.mark.parametrize(
    "high, expected", [(1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (561, [0, 200, 400]), (0.07, [0, 0.02, 0.04, 0.06])]
)
def test_ticks_are_round(high, expected):
    assert report.ticks(0, high) == pytest.approx(expected)


def test_validation_logged_by_epoch_stands_at_its_iteration():
    log = [{"step": 10, "loss": 2.0}, {"step": 20, "loss": 1.0}, {"step": 1, "top1": 50.0}, {"step": 30, "loss": 0.5}]
    assert report.points(log, "loss") == [(10, 2.0), (20, 1.0), (30, 0.5)]
    assert report.points(log, "top1", scale=0.01) == [(20, 0.5)]


def test_mask_is_decoded_column_by_column():
    expected = np.array([[False, True, False], [True, True, False]])
    np.testing.assert_array_equal(report.decode({"size": [2, 3], "counts": [1, 3, 2]}), expected)


def test_an_unfinished_demo_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"metrics\.json: not there"):
        report.collect(tmp_path, tmp_path)

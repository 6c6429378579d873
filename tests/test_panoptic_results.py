"""The Predictor's answer for a panoptic model: objects, and a map of segments that mmdet's own output gives back."""

import json

import numpy as np
import predict
import pytest
import small_heads
import torch
from helpers import run
from mmdet.evaluation import INSTANCE_OFFSET
from PIL import Image

import engine
from detection.panoptic_result import describe_segments, segments_of
from engine.config import load_config
from engine.draw import draw_segments
from engine.results import Panoptic

NAMES = ("cat", "dog", "sky")


@pytest.fixture(autouse=True)
def shallow_at_root(monkeypatch, cut_depths, request):
    monkeypatch.chdir(request.config.rootpath)
    cut_depths("van_b0", (1, 1, 1, 1))


def test_segments_are_mmdets():
    """Two cats, the sky, and pixels of no segment, which mmdet gives the index behind the last class."""
    ids = np.full((6, 8), len(NAMES))
    ids[:, :4] = 2
    ids[:2, 4:] = 0 + 1 * INSTANCE_OFFSET
    ids[2, 4:7] = 0 + 2 * INSTANCE_OFFSET
    found, segments = segments_of(ids, NAMES)
    assert [tuple(one) for one in segments] == [
        (1, 2, "sky", False, 24),
        (2, 0, "cat", True, 8),
        (3, 0, "cat", True, 3),
    ]
    for one in segments:
        value = one.label + (one.number - 1) * INSTANCE_OFFSET * one.is_thing
        np.testing.assert_array_equal(found == one.number, ids == value)
    np.testing.assert_array_equal(found == 0, ids == len(NAMES))


def test_segments_are_tinted_and_outlined():
    ids = np.zeros((40, 600), np.int32)
    ids[:, 100:300], ids[:, 300:400] = 1, 2
    drawn = np.asarray(
        draw_segments(Image.new("RGB", (600, 40)), ids, [(1, "cat", (200, 0, 0)), (2, "cat", (200, 0, 0))])
    )
    assert drawn.shape[0] > 40  # the legend
    assert drawn[20, 50].tolist() == [0, 0, 0] and drawn[20, 200].tolist() == drawn[20, 350].tolist() == [120, 0, 0]
    assert (drawn[20, [100, 300, 400]] > 200).all()


def test_the_tool_writes_the_map_and_its_segments(tmp_path, monkeypatch, capsys):
    slim = small_heads.DETECTORS["mask2former"][1]
    cfg = load_config(
        f"detection/configs/{small_heads.PANOPTIC}.py",
        {**slim, "model.backbone.arch": "van_b0", "model.backbone.pretrained": None, "data_root": "none"}
        | {"val_dataloader.dataset.pipeline.1.scale": (64, 64), "model.test_cfg.iou_thr": 0.0}
        | {"model.test_cfg.filter_low_score": False},
    )
    model = small_heads.built(cfg)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "model.pth")
    cfg.dump(tmp_path / "config.py")
    pixels = small_heads.image_of(48, 64)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    argv = [tmp_path / "config.py", tmp_path / "model.pth", tmp_path / "a.png", "--out", tmp_path / "out"]
    status, _, err = run(predict, [*argv, "--device", "cpu", "--score-thr", 0], monkeypatch, capsys)
    assert status == 0, err
    found = engine.Predictor(cfg, tmp_path / "model.pth")(pixels)
    assert isinstance(found, Panoptic) and len(found.above(2.0).boxes) == 0
    assert found.panoptic_map.shape == found.above(2.0).panoptic_map.shape == (48, 64)
    written = json.loads((tmp_path / "out/a.json").read_text())
    assert written["segments"] == describe_segments(found) and len(written["boxes"]) == len(found.boxes)
    colours = np.asarray(Image.open(tmp_path / "out/panoptic/a.png")).astype(int)
    np.testing.assert_array_equal(colours @ [1, 256, 65536], found.panoptic_map)
    output = small_heads.predicted(cfg, model, pixels)
    ids = output.pred_panoptic_seg.sem_seg[0].numpy()
    assert len(np.unique(ids)) == len(np.unique(found.panoptic_map))
    for segment in written["segments"]:
        value = np.unique(ids[found.panoptic_map == segment["id"]])
        assert len(value) == 1 and value[0] % INSTANCE_OFFSET == segment["label"]
        assert segment["isthing"] == int(value[0] >= INSTANCE_OFFSET)
        assert segment["area"] == (found.panoptic_map == segment["id"]).sum()
    assert (tmp_path / "out/a.png").is_file()

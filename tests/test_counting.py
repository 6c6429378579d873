"""Whole models are as large as published: parameters and multiply-adds of detectors and segmenters."""

import copy
import json
from pathlib import Path

import dense_models_table
import model_info
import pytest
from dense_leaves import ROOT, config, model
from helpers import run

from backbones import UserError
from ziggurat.engine.config import load_config
from ziggurat.engine.counting import count_config

LEAF = "detection/configs/van/mask_rcnn_van_b0_fpn_1x_coco.py"


def test_published_sizes_are_these_or_have_a_reason():
    for row in dense_models_table.rows():
        assert set(row["differs"]) == set(row.get("why", {})), (row["config"], row["counted"])
    assert (ROOT / "docs/dense_models.md").read_text() == dense_models_table.page()


def test_the_boxes_and_masks_of_a_detector_are_counted():
    """What Mask R-CNN has beyond Faster R-CNN is its mask head, on 100 regions of 14x14."""
    with_masks = copy.deepcopy(config(Path(LEAF)))
    without = copy.deepcopy(with_masks)
    without.model.roi_head.mask_head = without.model.roi_head.mask_roi_extractor = None
    more = count_config(with_masks, 256, 320)[0].macs - count_config(without, 256, 320)[0].macs
    convolutions = 4 * 14 * 14 * 256 * 256 * 9
    upsampling, logits = 14 * 14 * 256 * 256 * 4, 28 * 28 * 256 * 80
    assert more == 100 * (convolutions + upsampling + logits)


def test_configs_on_the_command_line(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    status, out, _ = run(model_info, [LEAF, "--size", "64", "96", "--json"], monkeypatch, capsys)
    (row,) = json.loads(out)
    assert (status, row["config"], row["height"], row["width"]) == (0, LEAF, 64, 96)
    assert row["params"] == sum(param.numel() for param in model(Path(LEAF)).parameters())
    status, out, _ = run(model_info, [LEAF, "--size", "64", "96"], monkeypatch, capsys)
    assert status == 0 and out.splitlines()[1].endswith(f"64x96     {LEAF}")
    status, _, err = run(model_info, [LEAF, "van_b0"], monkeypatch, capsys)
    assert status == 2 and err == (
        "error: configs stand alone; allowed: configs without arch names and without --published\n"
    )


def test_unknown_heads_of_regions_are_named(monkeypatch):
    cfg = copy.deepcopy(config(Path(LEAF)))
    cfg.model.roi_head.type = "PISARoIHead"
    with pytest.raises(UserError, match=r"roi_head PISARoIHead cannot be counted; allowed: StandardRoIHead, Cascade"):
        count_config(cfg, 64, 96)


@pytest.mark.parametrize(
    ("config", "side"),
    [("van/van_b4_64xb64_in22k", 224), ("demo/van_b0_distill_digits", 224), ("vvt/vvt_tiny_8xb64_in1k_384", 384)],
)
def test_classifiers_are_counted_with_and_without_validation(config, side):
    counted, size = count_config(load_config(ROOT / f"classification/configs/{config}.py"))
    assert size == (side, side) and counted.macs > 1e8

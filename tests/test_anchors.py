"""``fit_anchors``: the recall is that of mmdet's own anchors, the fit is better, and travels with the checkpoint."""

import json

import dense_data
import numpy as np
import pytest
import torch
from conftest import ROOT
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import bbox_overlaps

from backbones import UserError
from detection import TASK
from detection.anchors import Levels, Truth, levels_of, overlaps, recall, searched, take_anchors
from ziggurat.engine.complete import complete
from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_training

VAN = ROOT / "detection/configs/van"
FASTER, RETINANET = VAN / "mask_rcnn_van_b0_fpn_1x_coco.py", VAN / "retinanet_van_b0_fpn_1x_coco.py"
SIZE = (160, 96)  # width and height


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    """Scenes whose objects are five times as wide as high."""
    root = dense_data.write_coco(tmp_path_factory.mktemp("flat") / "data", {"train": 6, "val": 1})
    path = root / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    for one in content["annotations"]:
        one["bbox"] = [2, 18, 60, 12]
    path.write_text(json.dumps(content))
    return root


def config(leaf, root, **options):
    given = {"data_root": str(root), "model.backbone.pretrained": None, **dense_data.SMALL_LOADERS}
    return load_config(leaf, given | dense_data.small_coco_pipelines(with_mask=leaf is FASTER) | options)


def random_truth(count=60):
    rng = np.random.default_rng(0)
    sides = np.exp(rng.uniform(np.log(2), np.log(90), (count, 2)))
    corners = rng.uniform(0, 1, (count, 2)) * (np.array(SIZE) - sides)
    return Truth(np.concatenate([corners, corners + sides], axis=1), np.tile([SIZE], (count, 1)).astype(float))


@pytest.mark.parametrize(
    "generator",
    [
        dict(scales=[8], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64]),
        dict(octave_base_scale=4, scales_per_octave=3, ratios=[0.5, 1.0, 2.0], strides=[8, 16, 32, 64, 128]),
        dict(scales=[2, 5], ratios=[0.3, 1.0], strides=[(8, 16), (16, 8)], base_sizes=[9, 30], center_offset=0.5),
    ],
)
def test_overlaps_are_those_of_all_anchors(generator):
    made, truth = TASK_UTILS.build(dict(generator, type="AnchorGenerator", _scope_="mmdet")), random_truth()
    maps = [tuple(-(-side // step) for side, step in zip(SIZE[::-1], stride[::-1])) for stride in made.strides]
    anchors = torch.cat(made.grid_priors(maps, device="cpu"))
    wanted = bbox_overlaps(torch.from_numpy(truth.boxes).float(), anchors).max(dim=1)[0]
    scales, ratios = made.scales.numpy().astype(float), made.ratios.numpy().astype(float)
    found = overlaps(levels_of(made), scales, ratios, truth)
    assert np.allclose(found, wanted, atol=1e-5)
    assert recall(levels_of(made), scales, ratios, truth, 0.5) == pytest.approx(float((wanted >= 0.5).float().mean()))


def test_a_search_finds_the_anchors_that_boxes_were_made_from():
    strides = np.array([[4.0, 4], [8, 8]])
    levels = Levels(strides, np.zeros((2, 2)), strides[:, 0])
    sides = np.array([[40.0, 5.0], [80.0, 10.0]])
    middles = np.array([[80.0, 48.0], [80.0, 48.0]])
    truth = Truth(
        np.concatenate([middles - sides / 2, middles + sides / 2], axis=1), np.tile([SIZE], (2, 1)).astype(float)
    )
    scales, ratios = searched(levels, np.array([8.0]), np.array([0.5, 1.0, 2.0]), truth, 0.7)
    assert len(scales) == 1 and len(ratios) == 3
    assert (
        recall(levels, scales, ratios, truth, 0.9)
        == 1
        > recall(levels, np.array([8.0]), np.array([0.5, 1, 2]), truth, 0.5)
    )


@pytest.mark.parametrize("leaf", [FASTER, RETINANET])
def test_anchors_fit_the_boxes_and_keep_the_weights_in_shape(leaf, flat, capsys):
    cfg = config(leaf, flat, fit_anchors=True)
    states = (torch.get_rng_state(), np.random.get_state()[1].copy())
    TASK.settle_training(cfg, None)
    assert torch.equal(states[0], torch.get_rng_state()) and (states[1] == np.random.get_state()[1]).all()
    said = capsys.readouterr().err
    name = "rpn_head" if leaf is FASTER else "bbox_head"
    before, after = (float(said.split(word)[1].split()[0].strip(";")) for word in (f"{name} recalls ", "fitted "))
    assert after > before + 0.2 and after > 0.9, said
    plain = config(leaf, flat).model
    old, new = (TASK_UTILS.build(dict(model[name].anchor_generator, _scope_="mmdet")) for model in (plain, cfg.model))
    assert old.num_base_priors == new.num_base_priors
    once = cfg.to_dict()
    complete(cfg)
    assert cfg.to_dict() == once


def test_a_fit_that_is_no_better_is_not_taken(tmp_path, capsys):
    """Every box is as large as an anchor at its place."""
    root = dense_data.write_coco(tmp_path / "data", {"train": 2, "val": 1})
    path = root / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    for one in content["annotations"]:
        one["bbox"] = [16, 16, 32, 32]
    path.write_text(json.dumps(content))
    cfg = config(FASTER, root, fit_anchors=True)
    before = cfg.model.rpn_head.anchor_generator.to_dict()
    TASK.settle_training(cfg, None)
    assert "and no fit was better; its anchors stay\n" in capsys.readouterr().err
    assert cfg.model.rpn_head.anchor_generator == before


def test_a_resumed_run_and_a_test_take_the_anchors_of_the_checkpoint(flat, tmp_path, capsys):
    trained = config(RETINANET, flat, fit_anchors=True)
    trained.model.bbox_head.anchor_generator = dict(
        type="AnchorGenerator", scales=[1, 2, 3], ratios=[0.1, 0.2, 1.0], strides=[8, 16, 32, 64, 128]
    )
    cfg = config(RETINANET, flat)
    TASK.follow_checkpoint(cfg, {"config": trained.to_dict()}, "epoch_1.pth")
    assert cfg.model.bbox_head.anchor_generator.scales == [1, 2, 3]
    assert "bbox_head has the anchors that the run of epoch_1.pth has fitted\n" in capsys.readouterr().err
    TASK.settle_training(cfg, trained.to_dict())
    assert cfg.model.bbox_head.anchor_generator.scales == [1, 2, 3]
    other = config(RETINANET, flat)
    take_anchors(other, config(RETINANET, flat).to_dict(), "epoch_1.pth")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("value", [1, 0, -1, "fit", [8], 0.5, {"scales": 3}])
def test_other_values_are_refused(value):
    with pytest.raises(UserError, match=r"fit_anchors=.*; allowed: True, False"):
        load_config(FASTER, {"model.backbone.pretrained": None, "fit_anchors": value})


@pytest.mark.parametrize(
    ("leaf", "head"), [("dino_van_b1_12e_coco", "DINOHead"), ("gfl_van_b1_fpn_3x_coco", "GFLHead")]
)
def test_heads_without_anchors_are_named(leaf, head):
    with pytest.raises(
        UserError, match=f"fit_anchors: {head} has no AnchorGenerator with an assigner's pos_iou_thr; all"
    ):
        load_config(VAN / f"{leaf}.py", {"model.backbone.pretrained": None, "fit_anchors": True})


def test_images_without_boxes_are_refused(flat, tmp_path):
    cfg = config(FASTER, flat, fit_anchors=True)
    cfg.train_dataloader.dataset.pipeline.insert(
        -1, dict(type="FilterAnnotations", min_gt_bbox_wh=(999, 999), keep_empty=False)
    )
    with pytest.raises(UserError, match="fit_anchors: the training images have no boxes"):
        build_training(cfg, tmp_path, device="cpu")

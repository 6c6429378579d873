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
from detection.anchor_fits import FITS, built, k_means
from detection.anchor_recall import Truth, levels_of, overlaps, recall
from detection.anchors import take_anchors
from ziggurat.engine.complete import complete
from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_testing, build_training

VAN = ROOT / "detection/configs/van"
FASTER, RETINANET = VAN / "mask_rcnn_van_b0_fpn_1x_coco.py", VAN / "retinanet_van_b0_fpn_1x_coco.py"
SIZE = (160, 96)  # width and height
YOLO_SIZES = [[(116, 90), (156, 198), (373, 326)], [(30, 61), (62, 45), (59, 119)], [(10, 13), (16, 30), (33, 23)]]
YOLO = dict(type="YOLOAnchorGenerator", base_sizes=YOLO_SIZES, strides=[32, 16, 8])
RATIOS = [[2], [2, 3], [2, 3], [2], [2]]
SSD = dict(type="SSDAnchorGenerator", scale_major=False, strides=[8, 16, 32, 64, 128], ratios=RATIOS)
# Models of mmdetection's heads on the networks of a leaf, as options.
MODELS = {
    "yolo": {
        "model.type": "YOLOV3",
        "model.backbone.out_indices": (1, 2, 3),
        "model.neck": dict(
            _delete_=True, type="YOLOV3Neck", num_scales=3, in_channels=[256, 160, 64], out_channels=[16] * 3
        ),
        "model.bbox_head": dict(
            _delete_=True,
            type="YOLOV3Head",
            num_classes=80,
            in_channels=[16, 16, 16],
            out_channels=[16, 16, 16],
            anchor_generator=YOLO,
        ),
        "model.train_cfg": dict(
            _delete_=True, assigner=dict(type="GridAssigner", pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0)
        ),
        "model.test_cfg": dict(
            _delete_=True,
            nms_pre=9,
            score_thr=0.0,
            conf_thr=0.0,
            nms=dict(type="nms", iou_threshold=0.45),
            max_per_img=9,
        ),
    },
    "ssd": {
        "model.neck.out_channels": 16,
        "model.bbox_head": dict(
            _delete_=True,
            type="SSDHead",
            num_classes=80,
            in_channels=[16] * 5,
            anchor_generator=dict(SSD, input_size=300, basesize_ratio_range=(0.15, 0.9)),
        ),
        "model.train_cfg.assigner": dict(type="MaxIoUAssigner", pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.0),
        "model.train_cfg.smoothl1_beta": 1.0,
        "model.train_cfg.neg_pos_ratio": 3,
    },
}


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
    if leaf in MODELS:
        leaf, options = RETINANET, MODELS[leaf] | options
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
        YOLO,
        dict(SSD, input_size=300, basesize_ratio_range=(0.2, 0.9)),
        dict(SSD, min_sizes=[5, 12, 30, 50, 70], max_sizes=[12, 30, 55, 70, 90]),
    ],
)
def test_overlaps_are_those_of_all_anchors(generator):
    made, truth = TASK_UTILS.build({"type": "AnchorGenerator", **generator, "_scope_": "mmdet"}), random_truth()
    maps = [tuple(-(-side // step) for side, step in zip(SIZE[::-1], stride[::-1])) for stride in made.strides]
    anchors = torch.cat(made.grid_priors(maps, device="cpu"))
    wanted = bbox_overlaps(torch.from_numpy(truth.boxes).float(), anchors).max(dim=1)[0]
    assert np.allclose(overlaps(levels_of(made), truth), wanted, atol=1e-5)
    assert recall(levels_of(made), truth, 0.5) == pytest.approx(float((wanted >= 0.5).float().mean()))


def truth_of(sides, middle=(80, 48)):
    """Boxes of these widths and heights, by default in the middle of an image."""
    sides = np.array(sides, float)
    boxes = np.concatenate([middle - sides / 2, middle + sides / 2], axis=1)
    return Truth(boxes, np.tile([SIZE], (len(sides), 1)).astype(float))


def refitted(generator, truth, threshold):
    """The fitted settings, and the recall with the generator's own and with them."""
    settings = FITS[generator["type"]](generator, truth, threshold)
    made = [built(generator)[1], built(generator, **settings)[1]]
    return settings, *(recall(levels_of(one), truth, threshold) for one in made)


def test_a_search_finds_the_anchors_that_boxes_were_made_from():
    truth = truth_of([[40, 5], [80, 10]])
    generator = dict(type="AnchorGenerator", scales=[8.0], ratios=[0.5, 1.0, 2.0], strides=[4, 8])
    settings, before, after = refitted(generator, truth, 0.9)
    assert len(settings["scales"]) == 1 and len(settings["ratios"]) == 3
    assert before == 0 and after == 1 and recall(levels_of(built(generator)[1]), truth, 0.5) < 1


def iou_means(sides, centres):
    """k-means on IoU by loops over boxes and centres, the plain way."""
    while True:
        clusters = [[] for _ in centres]
        for side in sides:
            ious = []
            for centre in centres:
                common = min(side[0], centre[0]) * min(side[1], centre[1])
                ious.append(common / (side[0] * side[1] + centre[0] * centre[1] - common))
            clusters[ious.index(max(ious))].append(side)
        moved = [np.mean(own, axis=0) if own else centre for own, centre in zip(clusters, centres, strict=True)]
        if np.allclose(moved, centres):
            return np.array(moved)
        centres = moved


def test_clusters_are_those_of_the_plain_way():
    rng = np.random.default_rng(3)
    sides = np.exp(rng.uniform(1, 5, (80, 2)))
    for start in (sides[:6], np.concatenate([sides[:5], [[1e4, 1e4]]])):  # the last one has no boxes, and stays
        assert np.allclose(k_means(sides, start), iou_means(sides, list(start)))


@pytest.mark.parametrize("strides", [[32, 16, 8], [8, 16, 32]])
def test_sizes_of_yolo_are_dealt_by_area(strides):
    """Nine groups of boxes become the nine sizes: the three largest belong to the stride of 32."""
    rng = np.random.default_rng(0)
    groups = np.array([(12, 18), (28, 14), (24, 36), (70, 36), (52, 90), (150, 66), (105, 144), (180, 180), (360, 210)])
    sides = np.concatenate([group * rng.uniform(0.98, 1.02, (9, 2)) for group in groups])
    truth = truth_of(sides, rng.uniform(200, 440, (81, 2)))._replace(sizes=np.full((81, 2), 640.0))
    settings, before, after = refitted(dict(YOLO, strides=strides), truth, 0.7)
    assert set(settings) == {"base_sizes"}
    found = dict(zip(strides, settings["base_sizes"], strict=True))
    ordered = groups[np.argsort(groups.prod(axis=1))].reshape(3, 3, 2)
    for stride, wanted in zip((8, 16, 32), ordered, strict=True):
        assert np.allclose(found[stride], wanted, rtol=0.03)
    assert after > before + 0.1


def test_sizes_of_ssd_rise_with_the_strides():
    """The levels share the range of the objects, without gaps; generators keep their ratios and numbers of anchors."""
    rng = np.random.default_rng(0)
    truth = truth_of(np.exp(rng.uniform(np.log(4), np.log(40), (60, 1))) * np.array([1.0, 1.0]))
    for strides in ([8, 16, 32, 64, 128], [128, 64, 32, 16, 8]):
        generator = dict(SSD, strides=strides, input_size=300, basesize_ratio_range=(0.15, 0.9))
        settings, before, after = refitted(generator, truth, 0.5)
        step = 1 if strides[0] == 8 else -1
        smallest, largest = settings["min_sizes"][::step], settings["max_sizes"][::step]
        assert sorted(smallest) == smallest and smallest[1:] == largest[:-1]
        assert after > before + 0.2
        old, new = built(generator)[1], built(generator, **settings)[1]
        assert old.num_base_priors == new.num_base_priors
        assert all(torch.equal(*pair) for pair in zip(old.ratios, new.ratios, strict=True))


@pytest.mark.parametrize("generator", [YOLO, dict(SSD, input_size=300, basesize_ratio_range=(0.15, 0.9))])
@pytest.mark.parametrize("sides", [[[30, 20]], [[30, 20]] * 9, [[0.01, 0.02], [150, 90]]])
def test_few_boxes_and_boxes_alike(generator, sides):
    settings, _, after = refitted(generator, truth_of(sides), 0.5)
    assert after > 0 and all(np.min(values) > 0 and np.isfinite(values).all() for values in settings.values())
    assert settings == FITS[generator["type"]](generator, truth_of(sides), 0.5)


@pytest.mark.parametrize("leaf", [FASTER, RETINANET, *MODELS])
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


@pytest.mark.parametrize("kind", MODELS)
def test_a_detector_of_mmdet_trains_and_is_tested_with_fitted_anchors(kind, flat, tmp_path, cut_depths):
    cut_depths("van_b0", (1, 1, 1, 1))
    options = {"train_cfg": dict(_delete_=True, type="IterBasedTrainLoop", max_iters=1, val_interval=9)}
    options |= {"param_scheduler": [], "log_processor.by_epoch": False, "optim_wrapper.optimizer.lr": 1e-5}
    options |= {"default_hooks.checkpoint": dict(type="CheckpointHook", by_epoch=False, interval=1)}
    cfg = config(kind, flat, fit_anchors=True, **options)
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None  # mmdetection's SSDHead fails to predict
    runner = build_training(cfg, tmp_path / "run", device="cpu")
    runner.train()
    head = runner.model.bbox_head
    assert type(head).__name__ == {"yolo": "YOLOV3Head", "ssd": "SSDHead"}[kind]
    plain = config(kind, flat).model.bbox_head.anchor_generator
    tested = build_testing(config(kind, flat), tmp_path / "run/iter_1.pth", tmp_path / "test", device="cpu")
    pairs = [(head.prior_generator, tested.model.bbox_head.prior_generator), (head.prior_generator, built(plain)[1])]
    same = [all(map(torch.equal, one.base_anchors, other.base_anchors)) for one, other in pairs]
    assert same == [True, False]


@pytest.mark.parametrize("value", [1, 0, -1, "fit", [8], 0.5, {"scales": 3}])
def test_other_values_are_refused(value):
    with pytest.raises(UserError, match=r"fit_anchors=.*; allowed: True, False"):
        load_config(FASTER, {"model.backbone.pretrained": None, "fit_anchors": value})


@pytest.mark.parametrize(
    ("leaf", "options", "words"),
    [
        ("dino_van_b1_12e_coco", {}, "DINOHead has no anchors"),
        ("gfl_van_b1_fpn_3x_coco", {}, "GFLHead has an assigner without pos_iou_thr"),
        (
            "retinanet_van_b0_fpn_1x_coco",
            {"model.bbox_head.anchor_generator.type": "LegacyAnchorGenerator"},
            "RetinaHead has anchors of LegacyAnchorGenerator",
        ),
    ],
)
def test_heads_without_such_anchors_are_named(leaf, options, words):
    allowed = "allowed: AnchorGenerator, SSDAnchorGenerator, YOLOAnchorGenerator, with an assigner's pos_iou_thr"
    with pytest.raises(UserError, match=f"fit_anchors: {words}; {allowed}"):
        load_config(VAN / f"{leaf}.py", {"model.backbone.pretrained": None, "fit_anchors": True, **options})


@pytest.mark.parametrize(
    ("kind", "name", "value", "words"),
    [
        ("yolo", "base_sizes", [], "YOLOAnchorGenerator: list index out of range"),
        ("yolo", "base_sizes", [[(1, 2)], [(3, 4)]], "YOLOAnchorGenerator has 3 strides, and its sizes are .*1x2.*3x4"),
        (
            "yolo",
            "base_sizes",
            [[(0, 0)] * 3] * 3,
            "YOLOAnchorGenerator has 3 strides, .*0x0.*; allowed: sizes above 0",
        ),
        ("ssd", "min_sizes", [1, 2, 3], "SSDAnchorGenerator: "),
        ("ssd", "ratios", [[2]], "SSDAnchorGenerator: "),
        (RETINANET, "ratios", [], "AnchorGenerator has 5 strides, .*; allowed: sizes above 0 for each stride"),
        (RETINANET, "scales", [8], "AnchorGenerator: scales and octave_base_scale .*cannot be set at the same time"),
    ],
)
def test_generators_that_cannot_be_built_are_one_line(kind, name, value, words, flat):
    cfg = config(kind, flat, fit_anchors=True, **{f"model.bbox_head.anchor_generator.{name}": value})
    with pytest.raises(UserError, match=words):
        TASK.settle_training(cfg, None)


def test_images_without_boxes_are_refused(flat, tmp_path):
    cfg = config(FASTER, flat, fit_anchors=True)
    cfg.train_dataloader.dataset.pipeline.insert(
        -1, dict(type="FilterAnnotations", min_gt_bbox_wh=(999, 999), keep_empty=False)
    )
    with pytest.raises(UserError, match="fit_anchors: the training images have no boxes"):
        build_training(cfg, tmp_path, device="cpu")

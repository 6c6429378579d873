"""``class_weight`` reaches every classification loss, or the config is refused.

"balanced" is scikit-learn's rule. The numbers are said by class name.
"""

import json

import dense_data
import numpy as np
import pytest
import torch
from conftest import ROOT
from mmengine.registry import MODELS
from paper_run import RECIPE, options_for
from PIL import Image
from sklearn.utils.class_weight import compute_class_weight

from backbones import UserError
from ziggurat.engine.class_weights import balanced, settle_class_weights
from ziggurat.engine.complete import complete
from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_training

VAN = ROOT / "detection/configs/van"
SEGMENTERS = ROOT / "segmentation/configs/van"
NAMES = ["box", "disc", "background"]


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """Four boxes, and one disc beside a crowd and a box without an area."""
    root = dense_data.write_coco(tmp_path_factory.mktemp("coco") / "data")
    path = root / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    for number, change in ((1, {"iscrowd": 1}), (3, {"bbox": [1, 1, 0, 9]}), (5, {"area": 0})):
        content["annotations"][number] |= change
    path.write_text(json.dumps(content))
    return root


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    return dense_data.write_masks(tmp_path_factory.mktemp("masks") / "data")


def config(leaf, root, **options):
    if "segmentation" in str(leaf):
        options = {"classes": NAMES, **dense_data.small_mask_pipelines(), **options}
    return load_config(leaf, {"data_root": str(root), "model.backbone.pretrained": None, **options})


def test_balanced_is_the_rule_of_scikit_learn():
    labels = np.repeat([0, 1, 3], [90, 9, 1])
    wanted = compute_class_weight("balanced", classes=np.unique(labels), y=labels)
    found = balanced(np.bincount(labels, minlength=4))
    assert np.allclose(np.delete(found, 2), wanted) and found[2] == 1
    with pytest.raises(UserError, match="have no labels to count"):
        balanced([0, 0])


def test_pixels_of_all_masks_are_counted(masks, capsys):
    cfg = config(SEGMENTERS / "upernet_van_b0_512x512_160k_ade20k.py", masks, class_weight="balanced")
    assert "class_weight" not in cfg.model.decode_head.loss_decode  # counting is for trainings
    settle_class_weights(cfg)
    files = (masks / "annotations/training").iterdir()
    pixels = np.concatenate([np.asarray(Image.open(path)).ravel() for path in files])
    wanted = compute_class_weight("balanced", classes=np.array([1, 2, 3]), y=pixels[pixels > 0])
    assert cfg.class_weight == pytest.approx(wanted, rel=1e-3)
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        assert head.loss_decode.class_weight == cfg.class_weight
    said = ", ".join(f"{name} {weight:g}" for name, weight in zip(NAMES, cfg.class_weight))
    assert capsys.readouterr().err == f"note: class weights: {said}\n"


def test_objects_are_counted_without_crowds_and_what_is_not_trained_on(coco):
    cfg = config(VAN / "mask_rcnn_van_b0_fpn_1x_coco.py", coco, class_weight="balanced")
    settle_class_weights(cfg)
    wanted = compute_class_weight("balanced", classes=np.array([0, 1]), y=np.array([0, 0, 0, 0, 1]))
    assert cfg.class_weight == pytest.approx(wanted, rel=1e-3)
    head = cfg.model.roi_head.bbox_head
    assert head.loss_cls.class_weight == [*cfg.class_weight, 1.0]  # the last one is the ground
    assert "class_weight" not in cfg.model.rpn_head.loss_cls and "class_weight" not in cfg.model.roi_head.mask_head


def test_segments_of_panoptic_maps_are_counted(tmp_path):
    root = dense_data.write_panoptic(tmp_path / "data")
    cfg = config(VAN / "mask2former_van_b1_lsj_50e_coco_panoptic.py", root, class_weight="balanced")
    settle_class_weights(cfg)
    assert cfg.class_weight == [1, 1, 1]
    assert cfg.model.panoptic_head.loss_cls.class_weight == [1, 1, 1, 0.1]  # "no object" keeps its weight


HEADS = {
    "detection": {
        "cascade_mask_rcnn_van_b2_fpn_3x_coco": ["roi_head.bbox_head.0", "roi_head.bbox_head.2"],
        "mask2former_van_b1_lsj_50e_coco": ["panoptic_head"],
    },
    "segmentation": {
        "semantic_fpn_van_b0_512x512_40k_ade20k": ["decode_head"],
        "hamnet_van_b0_512x512_160k_ade20k": ["decode_head", "auxiliary_head"],
        "mask2former_van_b1_512x512_160k_ade20k": ["decode_head"],
    },
}


@pytest.mark.parametrize(("task", "leaf"), [(task, leaf) for task, leaves in HEADS.items() for leaf in leaves])
def test_every_head_gets_the_numbers(task, leaf, coco, masks):
    """The loss that is built from the config has them. The number for "no object" stays."""
    numbers = [2.0, 0.5] if task == "detection" else [2.0, 0.5, 1.5]
    root = coco if task == "detection" else masks
    cfg = config(ROOT / task / f"configs/van/{leaf}.py", root, class_weight=numbers)
    once = cfg.to_dict()
    complete(cfg)
    assert cfg.to_dict() == once
    for name in HEADS[task][leaf]:
        head = cfg.model
        for key in name.split("."):
            head = head[int(key) if key.isdigit() else key]
        key = "loss_cls" if "loss_cls" in head else "loss_decode"
        last = [] if key == "loss_decode" else [0.1 if "mask2former" in leaf else 1.0]
        with MODELS.switch_scope_and_registry(cfg.default_scope) as registry:
            assert registry.build(head[key]).class_weight == numbers + last


@pytest.mark.parametrize(
    ("leaf", "value", "words"),
    [
        ("mask_rcnn_van_b0_fpn_1x_coco", [1, 2, 3], "class_weight has 3 values, and there are 2 classes: box, disc"),
        ("mask_rcnn_van_b0_fpn_1x_coco", [1, -2], "class_weight has -2; allowed: a number from 0 up"),
        ("mask_rcnn_van_b0_fpn_1x_coco", [1, 10**400], "class_weight has a int; allowed: a number from 0 up"),
        ("mask_rcnn_van_b0_fpn_1x_coco", [1, 1e39], r"class_weight has 1e\+39; allowed"),
        ("mask_rcnn_van_b0_fpn_1x_coco", "even", "class_weight has 'even'; allowed: .* or balanced"),
        ("mask_rcnn_van_b0_fpn_1x_coco", [0, 0], "class_weight has no weight above 0; allowed: a number"),
        (
            "retinanet_van_b0_fpn_1x_coco",
            "balanced",
            "FocalLoss of RetinaHead takes no weights; take a head",
        ),
        ("gfl_van_b1_fpn_3x_coco", [1, 2], "the loss QualityFocalLoss of GFLHead takes no weights"),
        ("dino_van_b1_12e_coco", [1, 2], "the loss FocalLoss of DINOHead takes no weights"),
    ],
)
def test_values_and_losses_that_do_not_fit_are_named(leaf, value, words, coco):
    with pytest.raises(UserError, match=words) as error:
        config(VAN / f"{leaf}.py", coco, class_weight=value)
    assert "\n" not in str(error.value)


def test_of_several_losses_those_that_take_weights_get_them(masks):
    leaf = SEGMENTERS / "semantic_fpn_van_b0_512x512_40k_ade20k.py"
    losses = [dict(type="CrossEntropyLoss"), dict(type="DiceLoss")]
    cfg = config(leaf, masks, class_weight=[1, 2, 3], **{"model.decode_head.loss_decode": losses})
    assert [loss.get("class_weight") for loss in cfg.model.decode_head.loss_decode] == [[1, 2, 3], None]
    cfg.model.decode_head.pop("loss_decode")
    with pytest.raises(UserError, match="write loss_decode of FPNHead into the config"):
        complete(cfg)


def test_a_weight_of_zero_takes_a_class_out_of_the_loss(masks, tmp_path, cut_depths):
    """Trained heads: the gradient of the loss at pixels of the class is zero, and elsewhere not."""
    cut_depths("van_b0", (1, 1, 1, 1))
    options = {"train_cfg.max_iters": 1, "class_weight": [1, 1, 0], **dense_data.SMALL_LOADERS}
    cfg = config(SEGMENTERS / "semantic_fpn_van_b0_512x512_40k_ade20k.py", masks, **options)
    runner = build_training(cfg, tmp_path, device="cpu")
    batch = runner.model.data_preprocessor(next(iter(runner.train_dataloader)), training=True)
    head = runner.model.decode_head
    logits = torch.zeros(2, 3, 64, 64, requires_grad=True)
    head.loss_by_feat(logits, batch["data_samples"])["loss_ce"].backward()
    labels = torch.stack([one.gt_sem_seg.data[0] for one in batch["data_samples"]])
    steep = logits.grad.abs().sum(1) > 0
    assert torch.equal(steep, labels < 2)


def test_classifiers_are_weighed_by_their_images(tmp_path, capsys):
    for split, counts in (("train", {"cat": 3, "dog": 1}), ("val", {"cat": 1, "dog": 1})):
        for name, count in counts.items():
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (32, 32)).save(tmp_path / split / name / f"{i}.png")
    cfg = load_config(RECIPE, options_for(tmp_path, 0, class_weight="balanced"))
    settle_class_weights(cfg)
    wanted = compute_class_weight("balanced", classes=np.array([0, 1]), y=np.array([0, 0, 0, 1]))
    assert cfg.model.class_weight == pytest.approx(wanted, rel=1e-3)
    assert capsys.readouterr().err == "note: class weights: cat 0.6667, dog 2\n"
    for value, words in (([1], "class_weight has 1 values, and there are 2"), ("even", "class_weight has 'even'")):
        with pytest.raises(UserError, match=words):
            load_config(RECIPE, options_for(tmp_path, 0, class_weight=value))

"""``loss``: the losses follow their papers, unlabelled pixels change nothing, and heads that keep theirs say so."""

import dense_data
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT

from backbones import UserError
from classification.model import Classifier
from ziggurat.engine.complete import complete
from ziggurat.engine.config import load_config
from ziggurat.engine.focal import focal_cross_entropy
from ziggurat.engine.run import build_training

VAN = ROOT / "detection/configs/van"
UPERNET = ROOT / "segmentation/configs/van/upernet_van_b0_512x512_160k_ade20k.py"
DIGITS = ROOT / "classification/configs/demo/van_b0_digits.py"
MASK_RCNN = VAN / "mask_rcnn_van_b0_fpn_1x_coco.py"
CASCADE = VAN / "cascade_mask_rcnn_van_b2_fpn_3x_coco.py"
WEIGHTS = [0.5, 2.0, 1.0]
SLIM = {"model.decode_head.channels": 16, "model.auxiliary_head.channels": 16}
PIXELS = ("cross_entropy", "focal", "dice", "lovasz", "cross_entropy+dice", "focal+dice")


def segmenter(root, **options):
    given = {"data_root": str(root), "classes": ["box", "disc", "background"], **dense_data.small_mask_pipelines()}
    return load_config(UPERNET, given | {"model.backbone.pretrained": None} | options)


def pixel_losses(name):
    """The losses that the option gives, as mmseg builds them."""
    from segmentation.losses import LOSSES, MODELS

    return [MODELS.build(dict(one, class_weight=WEIGHTS, _scope_="mmseg")) for one in LOSSES[name]]


@pytest.fixture
def pixels():
    """Logits (2, 3, 6, 5) and labels (2, 6, 5), of which a third is unlabelled; the third class is absent."""
    torch.manual_seed(0)
    labels = torch.randint(0, 2, (2, 6, 5))
    labels[:, ::3] = 255
    return (4 * torch.randn(2, 3, 6, 5)).requires_grad_(), labels


def by_hand(name, logits, labels):
    """The rules of the papers, pixel by pixel, in NumPy."""
    found = logits.detach().double().softmax(1).permute(0, 2, 3, 1).numpy()[labels.numpy() != 255]
    truth = labels.numpy()[labels.numpy() != 255]
    own = found[np.arange(len(truth)), truth]
    if name == "focal":
        return np.mean(np.array(WEIGHTS)[truth] * (1 - own) ** 2 * -np.log(own))
    dice = [2 * found[truth == c, c].sum() / (found[:, c].sum() + (truth == c).sum()) for c in range(3) if c in truth]
    return np.average(1 - np.array(dice), weights=WEIGHTS[: len(dice)])


@pytest.mark.parametrize("name", ["focal", "dice"])
def test_losses_are_those_of_the_papers(name, pixels):
    (loss,) = pixel_losses(name)
    assert float(loss(*pixels).detach()) == pytest.approx(by_hand(name, *pixels), rel=1e-5)


@pytest.mark.parametrize("name", PIXELS)
def test_unlabelled_pixels_change_nothing(name, pixels):
    logits, labels = pixels
    other = logits.detach().clone()
    other.permute(0, 2, 3, 1)[labels == 255] = 50 * torch.randn(int((labels == 255).sum()), 3)
    for loss in pixel_losses(name):
        value = loss(logits, labels, weight=None, ignore_index=255)
        assert torch.allclose(value, loss(other, labels, weight=None, ignore_index=255), rtol=1e-5)
        (steep,) = torch.autograd.grad(value, logits)
        assert torch.isfinite(steep).all() and steep.abs().sum() > 0
        assert not steep.permute(0, 2, 3, 1)[labels == 255].any()
        nothing = loss(logits, torch.full_like(labels, 255), weight=None, ignore_index=255)
        assert nothing.ndim == 0 and float(nothing.detach()) == 0
        certain = loss(1e4 * F.one_hot(labels.clamp(max=2), 3).permute(0, 3, 1, 2).float(), labels, ignore_index=255)
        assert torch.isfinite(certain) and certain < 0.01


def test_gamma_0_is_cross_entropy_and_2_a_share_of_it():
    torch.manual_seed(0)
    logits, labels, weight = torch.randn(8, 5), torch.randint(5, (8,)), torch.rand(5)
    wanted = F.cross_entropy(logits, labels, weight, reduction="none")
    assert torch.allclose(focal_cross_entropy(logits, labels, 0, weight), wanted)
    own = logits.softmax(1).gather(1, labels[:, None])[:, 0]
    assert torch.allclose(focal_cross_entropy(logits, labels, 2, weight), wanted * (1 - own) ** 2, rtol=1e-5)
    shares = F.one_hot(labels, 5).float()
    assert torch.allclose(
        focal_cross_entropy(logits, shares, 2, weight), focal_cross_entropy(logits, labels, 2, weight)
    )


@pytest.mark.parametrize("smoothing", [0, 0.1])
def test_a_classifier_compares_as_pytorch_does(smoothing):
    torch.manual_seed(0)
    logits, labels, weight = torch.randn(8, 3), torch.randint(3, (8,)), torch.tensor(WEIGHTS)
    clf = Classifier(dict(type="Backbone", arch="van_b0"), 3, class_weight=WEIGHTS, label_smoothing=smoothing)
    assert "class_weight" not in clf.state_dict()
    wanted = torch.nn.CrossEntropyLoss(weight, label_smoothing=smoothing)
    assert torch.allclose(clf.compared(logits, labels, smoothing), wanted(logits, labels))
    shares = torch.rand(8, 3).softmax(1)
    assert torch.allclose(clf.compared(logits, shares, 0), torch.nn.CrossEntropyLoss(weight)(logits, shares))
    focal = Classifier(dict(type="Backbone", arch="van_b0"), 3, class_weight=WEIGHTS, criterion="focal")
    values = focal_cross_entropy(logits, labels, weight=weight)
    assert torch.allclose(focal.compared(logits, labels, 0), values.sum() / weight[labels].sum())
    assert torch.isfinite(focal.compared(logits, labels, smoothing)) and focal.compared(logits, shares, 0) > 0


def test_images_of_classes_without_weight_give_no_loss():
    clf = Classifier(dict(type="Backbone", arch="van_b0"), 3, class_weight=[0, 1, 1])
    assert float(clf.compared(torch.randn(2, 3), torch.zeros(2, dtype=torch.long), 0)) == 0


@pytest.mark.parametrize("name", ["lovasz", "focal+dice"])
def test_every_decode_head_gets_the_loss_once(name, tmp_path, capsys, cut_depths):
    """The loss keeps the heads' weights, and the weights of classes; a training says what it has replaced."""
    cut_depths("van_b0", (1, 1, 1, 1))
    root = dense_data.write_masks(tmp_path / "data", {"training": 4, "validation": 1})
    given = dense_data.SMALL_LOADERS | SLIM | {"train_cfg.max_iters": 1}
    cfg = segmenter(root, loss=name, class_weight=WEIGHTS, **given)
    once = cfg.to_dict()
    complete(cfg)
    assert cfg.to_dict() == once
    runner = build_training(cfg, tmp_path / "run", device="cpu")
    said = capsys.readouterr().err
    for head, weight in (("decode_head", 1.0), ("auxiliary_head", 0.4)):
        losses = getattr(runner.model, head).loss_decode
        for loss in losses if "+" in name else [losses]:
            assert loss.loss_weight == weight and list(loss.class_weight) == WEIGHTS
        assert f"{head}.loss_decode CrossEntropyLoss -> " in said
    batch = runner.model.data_preprocessor(next(iter(runner.train_dataloader)), training=True)
    runner.model.parse_losses(runner.model.loss(**batch))[0].backward()
    assert all(torch.isfinite(p.grad).all() for p in runner.model.decode_head.parameters() if p.grad is not None)


def test_box_heads_get_a_focal_loss_over_their_softmax(tmp_path):
    from mmdet.registry import MODELS

    root = dense_data.write_coco(tmp_path / "data", {"train": 2, "val": 1})
    given = {"data_root": str(root), "model.backbone.pretrained": None, "loss": "focal", "class_weight": [1.0, 3.0]}
    cfg = load_config(CASCADE, given)
    logits, labels = torch.randn(6, 3, requires_grad=True), torch.tensor([0, 1, 2, 2, 1, 0])
    for head in cfg.model.roi_head.bbox_head:
        loss = MODELS.build(dict(head.loss_cls, _scope_="mmdet"))
        found = loss(logits, labels, torch.ones(6), avg_factor=6)
        values = focal_cross_entropy(logits, labels, 2, torch.tensor([1.0, 3.0, 1.0]))
        assert torch.allclose(found, values.mean() * loss.loss_weight)
    found.backward()
    assert torch.isfinite(logits.grad).all()
    assert cfg.replaced_losses[0] == "roi_head.bbox_head.0.loss_cls CrossEntropyLoss -> SoftmaxFocalLoss (gamma 2)"
    assert load_config(MASK_RCNN, given | {"loss": "cross_entropy"}).replaced_losses == []


OWN = "which belongs to it; allowed: box heads of an R-CNN, or no loss"


@pytest.mark.parametrize(
    ("leaf", "value", "words"),
    [
        (UPERNET, "fokal", r"loss='fokal'; allowed: cross_entropy, focal, dice, lovasz, cross_entropy\+dice"),
        (UPERNET, True, "loss=True; allowed: cross_entropy"),
        (UPERNET, ["dice"], r"loss=\['dice'\]; allowed: cross_entropy"),
        (UPERNET, 1e99, "loss=1e[+]99; allowed"),
        (MASK_RCNN, "dice", "loss='dice'; allowed: cross_entropy, focal"),
        (DIGITS, "dice", "loss='dice'; allowed: cross_entropy, focal"),
        (VAN / "retinanet_van_b0_fpn_1x_coco.py", "focal", rf"RetinaHead has FocalLoss \(gamma 2, alpha 0.25\), {OWN}"),
        (VAN / "dino_van_b1_12e_coco.py", "focal", "DINOHead has FocalLoss"),
        (VAN / "mask2former_van_b1_lsj_50e_coco.py", "focal", "Mask2FormerHead has CrossEntropyLoss, which belongs"),
        (
            UPERNET.with_name("mask2former_van_b1_512x512_160k_ade20k.py"),
            "dice",
            r"loss=dice: Mask2FormerHead has losses of its own, CrossEntropyLoss \+ Cross",
        ),
    ],
)
def test_losses_that_do_not_fit_are_named(leaf, value, words):
    with pytest.raises(UserError, match=words) as error:
        load_config(leaf, {"model.backbone.pretrained": None, "loss": value})
    assert "\n" not in str(error.value)


def test_one_map_for_two_classes_keeps_its_loss(tmp_path):
    root = dense_data.write_masks(tmp_path / "data", {"training": 1, "validation": 1})
    with pytest.raises(UserError, match="UPerHead has out_channels=1, one map for two classes, and its loss Cross"):
        segmenter(root, classes=["box", "disc"], loss="dice", **{"model.decode_head.out_channels": 1})

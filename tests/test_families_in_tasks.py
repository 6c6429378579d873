"""Every family trains in every task, by the arch alone: all weights get gradients, and the metric gives figures."""

import dense_data
import numpy as np
import pytest
import torch
from dense_data import SLIM_ROI

from backbones import param_groups
from classification import create_classifier
from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_training

ARCHS = ["hornet_tiny_7x7", "hornet_tiny_gf", "pvig_tiny", "vig_tiny", "vvt_tiny"]  # VAN has tests of its own


@pytest.fixture(autouse=True)
def shallow_at_root(monkeypatch, cut_depths, request):
    """In the repository's folder, with one block a stage."""
    monkeypatch.chdir(request.config.rootpath)
    for arch in ARCHS:
        cut_depths(arch, (1, 1, 1, 1))


def options_for(arch):
    return {
        "model.backbone.arch": arch,
        "model.backbone.pretrained": None,
        "model.backbone.drop_path_rate": 0.0,
        "optim_wrapper.optimizer.lr": 1e-3,
        "param_scheduler": [],
        "default_hooks.checkpoint.interval": -1,
        "default_hooks.logger.interval": 1,
    }


def raise_layer_scales(model):
    """HorNet's start at 1e-6, which keeps a few steps' changes below what float32 resolves."""
    for name, param in model.named_parameters():
        if name.endswith(("gamma1", "gamma2")):
            param.data.fill_(0.5)


def check_run(runner, metric):
    raise_layer_scales(runner.model)
    before = {key: value.clone() for key, value in runner.model.state_dict().items()}
    runner.train()
    still = [key for key, value in runner.model.named_parameters() if torch.equal(value, before[key])]
    assert still == []
    assert np.isfinite(runner.message_hub.get_scalar("train/loss").data[0]).all()
    assert metric in runner.message_hub.log_scalars


@pytest.mark.parametrize("arch", ARCHS)
def test_detection(arch, tmp_path):
    options = options_for(arch) | {
        "data_root": str(dense_data.write_coco(tmp_path / "data")),
        "train_cfg": dict(_delete_=True, type="IterBasedTrainLoop", max_iters=2, val_interval=2),
        "log_processor.by_epoch": False,
        "train_dataloader.sampler.type": "InfiniteSampler",
        **dense_data.SMALL_LOADERS,
        **dense_data.small_coco_pipelines(with_mask=True),
        **SLIM_ROI,
        "model.test_cfg.rcnn.score_thr": 0.0,  # after two steps there may be no detection that is sure of itself
        "model.roi_head.bbox_head.in_channels": 32,
        "model.roi_head.bbox_head.fc_out_channels": 64,
    }
    cfg = load_config("detection/configs/van/mask_rcnn_van_b0_fpn_1x_coco.py", options)
    check_run(build_training(cfg, tmp_path / "run", device="cpu"), "val/coco/segm_mAP")


@pytest.mark.parametrize("arch", ARCHS)
def test_segmentation(arch, tmp_path):
    options = options_for(arch) | {
        "data_root": str(dense_data.write_masks(tmp_path / "data")),
        "classes": ["box", "disc", "background"],
        "train_cfg.max_iters": 2,
        "train_cfg.val_interval": 2,
        **dense_data.SMALL_LOADERS,
        **dense_data.small_mask_pipelines(),
        "model.decode_head.channels": 32,
        "model.auxiliary_head.channels": 16,
    }
    cfg = load_config("segmentation/configs/van/upernet_van_b0_512x512_160k_ade20k.py", options)
    check_run(build_training(cfg, tmp_path / "run", device="cpu"), "val/mIoU")


@pytest.mark.parametrize("arch", ARCHS)
def test_classification_and_layer_decay(arch):
    clf = create_classifier(arch, num_classes=3).train()
    raise_layer_scales(clf)
    groups = param_groups(clf, lr=1e-3, weight_decay=0.05, layer_decay=0.5)
    rates = {name: group["lr"] for group in groups for name in group["names"]}
    assert len(rates) == len(list(clf.parameters()))
    stem = [lr for name, lr in rates.items() if name.startswith("backbone.stem.")]
    head = [lr for name, lr in rates.items() if name.startswith("head.")]
    assert set(stem) == {1e-3 * 0.5**5} and set(head) == {1e-3}
    optimizer = torch.optim.AdamW(groups, eps=1e-30)  # random gates multiply to gradients far below the usual 1e-8
    before = {key: value.clone() for key, value in clf.named_parameters()}
    clf(torch.randn(2, 3, 64, 64), torch.tensor([0, 2]), mode="loss")["loss"].backward()
    optimizer.step()
    assert [key for key, value in clf.named_parameters() if torch.equal(value, before[key])] == []

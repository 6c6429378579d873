"""Heads and necks that only some published cells have: they train, and HamNet's head is the authors'."""

import dense_data
import numpy as np
import pytest
import torch
from dense_data import SLIM_ROI
from mmengine.registry import init_default_scope
from small_heads import RARE_SEGMENTERS as SEGMENTERS
from torch.nn import functional as F

import segmentation  # noqa: F401
from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_training


@pytest.fixture(autouse=True)
def shallow_at_root(monkeypatch, cut_depths, request):
    monkeypatch.chdir(request.config.rootpath)
    cut_depths("van_b0", (1, 1, 1, 1))
    cut_depths("hornet_small_7x7", (1, 1, 1, 1))


def options(arch):
    return {
        "model.backbone.arch": arch,
        "model.backbone.pretrained": None,
        "model.backbone.drop_path_rate": 0.0,
        "optim_wrapper.optimizer.lr": 1e-3,
        "param_scheduler": [],
        "train_cfg": dict(_delete_=True, type="IterBasedTrainLoop", max_iters=2, val_interval=2),
        "default_hooks.checkpoint.interval": -1,
        "default_hooks.logger.interval": 1,
        "log_processor.by_epoch": False,
        **dense_data.SMALL_LOADERS,
    }


def check_run(runner, metric):
    for name, value in runner.model.named_parameters():
        if name.endswith(("gamma1", "gamma2")):  # HorNet's start at 1e-6, too small for float32 in two steps
            value.data.fill_(0.5)
    before = {key: value.clone() for key, value in runner.model.state_dict().items()}
    runner.train()
    assert [key for key, value in runner.model.named_parameters() if torch.equal(value, before[key])] == []
    assert np.isfinite(runner.message_hub.get_scalar("train/loss").data[0]).all()
    assert metric in runner.message_hub.log_scalars


@pytest.mark.parametrize("name", SEGMENTERS, ids=lambda name: name.split("/")[1])
def test_segmenters_train(name, tmp_path):
    arch = "van_b0" if name.startswith("van") else "hornet_small_7x7"
    small = {"data_root": str(dense_data.write_masks(tmp_path / "data")), "classes": ["box", "disc", "background"]}
    small |= options(arch) | dense_data.small_mask_pipelines() | SEGMENTERS[name]
    if arch != "van_b0":  # windows of 512 pixels
        small["model.test_cfg"] = dict(_delete_=True, mode="slide", crop_size=(48, 48), stride=(32, 32))
    cfg = load_config(f"segmentation/configs/{name}.py", small)
    check_run(build_training(cfg, tmp_path / "run", device="cpu"), "val/mIoU")


def test_horfpn_trains(tmp_path):
    small = {
        "data_root": str(dense_data.write_coco(tmp_path / "data")),
        "train_dataloader.sampler.type": "InfiniteSampler",
        "model.test_cfg.rcnn.score_thr": 0.0,
        "model.roi_head.bbox_head.in_channels": 32,
        "model.roi_head.bbox_head.fc_out_channels": 64,
    }
    small |= options("hornet_small_7x7") | dense_data.small_coco_pipelines(with_mask=True) | SLIM_ROI
    cfg = load_config("detection/configs/hornet/mask_rcnn_hornet_small_7x7_horfpn_gf_1x_coco.py", small)
    check_run(build_training(cfg, tmp_path / "run", device="cpu"), "val/coco/segm_mAP")


def plain_ham(x, factors, steps):
    """Non-negative matrix factorisation by multiplicative updates, as in VAN-Segmentation@2573491: NMF2D."""
    flat = x.flatten(2)
    bases = F.normalize(torch.rand(len(x), x.shape[1], factors), dim=1)
    parts = F.softmax(flat.transpose(1, 2) @ bases, dim=-1)
    for step in range(steps + 1):
        parts = parts * (flat.transpose(1, 2) @ bases) / (parts @ (bases.transpose(1, 2) @ bases) + 1e-6)
        if step < steps:  # the last pass renews the parts alone
            bases = bases * (flat @ parts) / (bases @ (parts.transpose(1, 2) @ parts) + 1e-6)
    return (bases @ parts.transpose(1, 2)).view_as(x)


@pytest.mark.parametrize(("training", "steps"), [(True, 6), (False, 7)])
def test_ham_head_is_the_authors(training, steps):
    from mmseg.registry import MODELS

    init_default_scope("mmseg")
    config = dict(type="HamHead", in_channels=6, in_index=3, channels=8, ham_channels=12, ham_kwargs=dict(MD_R=4))
    norm = dict(type="GN", num_groups=2)
    head = MODELS.build(dict(config, num_classes=5, norm_cfg=norm, align_corners=False, dropout_ratio=0.0))
    head.train(training)
    parts = dict.fromkeys(name.split(".")[0] for name, _ in head.named_parameters())
    assert list(parts) == ["conv_seg", "squeeze", "ham_in", "ham_out", "align", "conv_cat"]
    maps = [None] * 3 + [torch.rand(2, 6, 5, 7)]
    torch.manual_seed(3)
    ours = head(maps)
    torch.manual_seed(3)
    x = head.squeeze(maps[3])
    x = F.relu(x + head.ham_out(plain_ham(F.relu(head.ham_in(x)), 4, steps)))
    wanted = head.conv_seg(head.conv_cat(torch.cat([maps[3], head.align(x)], dim=1)))
    torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-5)

"""Each detector of the configs trains on small COCO data.

Every weight moves, the loss falls, and CocoMetric gives figures for the predictions.
"""

import dense_data
import numpy as np
import pytest
import torch
from dense_data import SLIM_ROI

from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_testing, build_training

SLIM_BOX = {"in_channels": 32, "fc_out_channels": 64}
SLIM_DENSE = {  # 64 channels: group norms of 32 groups need two values each on a 1x1 map
    "model.neck.out_channels": 64,
    "model.bbox_head.in_channels": 64,
    "model.bbox_head.feat_channels": 64,
    "model.bbox_head.stacked_convs": 1,
    "model.test_cfg.score_thr": 0.0,
}
B0 = {"model.backbone.arch": "van_b0", "model.neck.in_channels": [64, 160, 256]}
HEADS = {
    "mask_rcnn_van_b0_fpn_1x_coco": SLIM_ROI | {f"model.roi_head.bbox_head.{k}": v for k, v in SLIM_BOX.items()},
    "cascade_mask_rcnn_van_b2_fpn_3x_coco": SLIM_ROI
    | {
        f"model.roi_head.bbox_head.{i}.{k}": v
        for i in range(3)
        for k, v in (SLIM_BOX | {"conv_out_channels": 32}).items()
    }
    | {"model.backbone.arch": "van_b0", "model.neck.in_channels": [32, 64, 160, 256]},
    "retinanet_van_b0_fpn_1x_coco": SLIM_DENSE,
    "atss_van_b2_fpn_3x_coco": SLIM_DENSE | B0,
    "gfl_van_b2_fpn_3x_coco": SLIM_DENSE | B0,
}


def short_run(name, data, work_dir, iters, lr):
    options = {
        "data_root": str(data),
        "model.backbone.pretrained": None,
        "model.backbone.drop_path_rate": 0.0,
        "optim_wrapper.optimizer.lr": lr,
        "train_cfg": dict(_delete_=True, type="IterBasedTrainLoop", max_iters=iters, val_interval=iters),
        "param_scheduler": [],
        "default_hooks.checkpoint.interval": -1,
        "default_hooks.logger.interval": 1,
        "log_processor.by_epoch": False,
        "log_processor.window_size": 1,
        "train_dataloader.sampler.type": "InfiniteSampler",
        **dense_data.SMALL_LOADERS,
        **dense_data.small_coco_pipelines(with_mask="mask" in name),
        **HEADS[name],
    }
    cfg = load_config(f"detection/configs/van/{name}.py", options)
    return build_training(cfg, work_dir, device="cpu")


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    return dense_data.write_coco(tmp_path_factory.mktemp("coco") / "data")


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


@pytest.mark.parametrize("name", HEADS)
def test_every_weight_moves_and_coco_metric_answers(name, coco, tmp_path):
    runner = short_run(name, coco, tmp_path, iters=3, lr=1e-3)
    before = {key: value.clone() for key, value in runner.model.state_dict().items()}
    runner.train()

    still = [key for key, value in runner.model.named_parameters() if torch.equal(value, before[key])]
    assert still == []
    losses = runner.message_hub.get_scalar("train/loss").data[0]
    assert np.isfinite(losses).all() and len(losses) == 3
    metrics = {key: hub.current() for key, hub in runner.message_hub.log_scalars.items() if key.startswith("val/coco/")}
    kinds = ("bbox", "segm") if "mask" in name else ("bbox",)
    assert all(f"val/coco/{kind}_mAP" in metrics for kind in kinds)
    assert (tmp_path / "val_images.png").is_file()


def test_the_loss_of_mask_rcnn_falls(coco, tmp_path):
    runner = short_run("mask_rcnn_van_b0_fpn_1x_coco", coco, tmp_path, iters=24, lr=1e-3)
    runner.train()
    losses = np.asarray(runner.message_hub.get_scalar("train/loss").data[0])
    assert losses[-4:].mean() < 0.6 * losses[:2].mean()


def test_tta_answers_for_boxes_and_masks(coco, tmp_path):
    from mmdet.registry import MODELS
    from mmengine.registry import init_default_scope

    from ziggurat.engine.tta import use_tta

    name = "mask_rcnn_van_b0_fpn_1x_coco"
    scales = [dict(type="Resize", scale=(side, side), keep_ratio=True) for side in (64, 96)]
    options = {"data_root": str(coco), "model.backbone.pretrained": None}
    cfg = load_config(f"detection/configs/van/{name}.py", options | dense_data.SMALL_LOADERS | HEADS[name])
    init_default_scope("mmdet")
    torch.save({"state_dict": MODELS.build(cfg.model).state_dict()}, tmp_path / "random.pth")
    cfg.tta_pipeline[1].transforms[0] = scales
    use_tta(cfg)
    cfg.test_dataloader.num_workers, cfg.test_dataloader.persistent_workers = 0, False
    runner = build_testing(cfg, tmp_path / "random.pth", tmp_path / "run", device="cpu")
    metrics = runner.test()
    assert {"coco/bbox_mAP", "coco/segm_mAP"} <= set(metrics)

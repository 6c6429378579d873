"""Heads of the recommended starts train: RTMDet, DINO, Mask2Former, SegFormer and DeepLabV3+."""

import dense_data
import numpy as np
import pytest
import torch
from slim_heads import DETECTORS, SEGMENTERS

from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_training


@pytest.fixture(autouse=True)
def shallow_at_root(monkeypatch, cut_depths, request):
    monkeypatch.chdir(request.config.rootpath)
    cut_depths("van_b0", (1, 1, 1, 1))


def run(path, options, metric, work_dir):
    options = options | {
        "model.backbone.arch": "van_b0",
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
    runner = build_training(load_config(path, options), work_dir, device="cpu")
    before = {key: value.clone() for key, value in runner.model.state_dict().items()}
    runner.train()
    still = [key for key, value in runner.model.named_parameters() if torch.equal(value, before[key])]
    assert np.isfinite(runner.message_hub.get_scalar("train/loss").data[0]).all()
    assert metric in runner.message_hub.log_scalars
    return still


@pytest.mark.parametrize("name", DETECTORS)
def test_detectors_train(name, tmp_path):
    options = {
        "data_root": str(dense_data.write_coco(tmp_path / "data")),
        "train_dataloader.sampler.type": "InfiniteSampler",
        **dense_data.small_coco_pipelines(with_mask="mask" in name),
        **DETECTORS[name],
    }
    still = run(f"detection/configs/van/{name}.py", options, "val/coco/bbox_mAP", tmp_path / "run")
    # No object of 64 pixels is large enough for RTMDet's coarsest boxes, whose norms are their own.
    assert [key for key in still if not key.startswith("bbox_head.reg_convs.2.")] == []


@pytest.mark.parametrize("name", SEGMENTERS)
def test_segmenters_train(name, tmp_path):
    options = {
        "data_root": str(dense_data.write_masks(tmp_path / "data")),
        "classes": ["box", "disc", "background"],
        **dense_data.small_mask_pipelines(),
        **SEGMENTERS[name],
    }
    assert run(f"segmentation/configs/van/{name}.py", options, "val/mIoU", tmp_path / "run") == []


def test_rtmdets_pipelines_give_images_of_640_pixels(tmp_path):
    from mmdet.registry import DATASETS
    from mmengine.registry import init_default_scope

    options = {"data_root": str(dense_data.write_coco(tmp_path / "data"))}
    cfg = load_config("detection/configs/van/rtmdet_van_b1_300e_coco.py", options)
    init_default_scope("mmdet")
    plain = next(hook for hook in cfg.custom_hooks if hook.type == "PipelineSwitchHook").switch_pipeline
    for pipeline in (cfg.train_dataloader.dataset.pipeline, plain):
        dataset = DATASETS.build(cfg.train_dataloader.dataset | dict(pipeline=pipeline))
        assert {tuple(dataset[i]["inputs"].shape) for i in range(3)} == {(3, 640, 640)}
    test = DATASETS.build(cfg.val_dataloader.dataset)[0]
    assert tuple(test["inputs"].shape) == (3, 640, 640)

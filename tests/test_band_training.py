"""All three tasks train and predict on images of any number of channels, without the steps that are for RGB."""

import copy
import importlib
import json

import dense_data
import numpy as np
import pytest
import tifffile
import torch
from mmengine.config import Config
from PIL import Image

from backbones import UserError, create_backbone
from backbones.images import read_pixels
from backbones.reading import Reading
from ziggurat.engine import Predictor
from ziggurat.engine.bands import COLOUR_STEPS, use_channels
from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_training
from ziggurat.engine.tasks import task_for

RNG = np.random.default_rng(0)
READING = Reading(channels=5)


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


def with_bands(root, suffix):
    """Replaces the pictures of a data set by files of five bands: RGB, its grey, and noise."""
    for path in sorted(root.rglob("*.png")):
        if "annotations" in path.parts:
            continue
        rgb = np.asarray(Image.open(path).convert("RGB")).astype(np.uint16) * 257
        noise = RNG.integers(0, 65536, (*rgb.shape[:2], 1), dtype=np.uint16)
        bands = np.concatenate([rgb, rgb[..., :1], noise], 2)
        path.unlink()
        if suffix == ".npy":
            np.save(path.with_suffix(suffix), bands)
        else:
            tifffile.imwrite(path.with_suffix(suffix), bands, planarconfig="contig", photometric="minisblack")
    for path in (root / "annotations").glob("*.json"):
        path.write_text(path.read_text().replace(".png", suffix))
    return root


def write_folders(root):
    for split, count in (("train", 4), ("val", 2)):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(RNG.integers(0, 256, (40, 48, 3), np.uint8)).save(root / split / name / f"{i}.png")
    return root


SHORT = {
    "train_cfg": dict(_delete_=True, type="IterBasedTrainLoop", max_iters=1, val_interval=1),
    "train_dataloader.sampler": dict(type="InfiniteSampler", shuffle=False),
    "train_dataloader.batch_size": 2,
    "param_scheduler": [],
    "default_hooks.checkpoint": dict(type="CheckpointHook", by_epoch=False, interval=1),
    "log_processor.by_epoch": False,
    "model.backbone.in_chans": 5,
}
PHOTOMETRIC = dict(type="PhotoMetricDistortion")


def short_config(task, root, weights):
    options = copy.deepcopy(SHORT) | {"data_root": str(root), "model.backbone.pretrained": str(weights)}
    if task == "classification":
        options |= {
            "train_dataloader.dataset.in_memory": False,
            "val_dataloader.dataset.in_memory": True,
            "train_dataloader.dataset.transform.auto_augment": "rand-m9",
            "train_dataloader.num_workers": 0,
        }
        return load_config("classification/configs/demo/van_b0_digits.py", options)
    options |= dense_data.SMALL_LOADERS
    if task == "detection":
        pipelines = dense_data.small_coco_pipelines(with_mask=True)
        options |= dense_data.SLIM_ROI | pipelines
        options |= {"model.roi_head.bbox_head.in_channels": 32, "model.roi_head.bbox_head.fc_out_channels": 64}
        path = "detection/configs/van/mask_rcnn_van_b0_fpn_1x_coco.py"
    else:
        pipelines = dense_data.small_mask_pipelines()
        options |= pipelines | {"classes": ["box", "disc", "background"], "model.decode_head.channels": 32}
        path = "segmentation/configs/van/semantic_fpn_van_b0_512x512_40k_ade20k.py"
        options |= {"model.neck.out_channels": 32, "model.decode_head.in_channels": [32] * 4}
    pipelines["train_dataloader.dataset.pipeline"].insert(3, PHOTOMETRIC)
    options["val_dataloader.dataset.pipeline"] = pipelines["val_dataloader.dataset.pipeline"]
    return load_config(path, options)


MAKERS = {
    "classification": write_folders,
    "detection": dense_data.write_coco,
    "segmentation": dense_data.write_masks,
}


@pytest.mark.usefixtures("shallow_van")
@pytest.mark.parametrize("task", MAKERS)
def test_a_task_trains_and_predicts_on_five_bands(task, tmp_path, capsys):
    suffix = ".tif" if task == "detection" else ".npy"
    root = with_bands(MAKERS[task](tmp_path / "data"), suffix)
    torch.save(create_backbone("van_b0").state_dict(), tmp_path / "rgb.pth")
    cfg = short_config(task, root, tmp_path / "rgb.pth")
    said = capsys.readouterr()
    step = "auto_augment" if task == "classification" else "PhotoMetricDistortion"
    assert f"in_chans=5: left out, since they are for images in RGB: {step}" in said.out + said.err
    runner = build_training(cfg, tmp_path / "run", device="cpu")
    weight = runner.model.backbone.stem.conv.weight
    before = weight.detach().clone()
    assert runner.model.data_preprocessor.mean.numel() == 5
    runner.train()
    assert weight.shape[1] == 5 and (weight != before).any(0).all()  # of each channel some weights have moved
    assert np.isfinite(runner.message_hub.get_scalar("train/loss").data[0]).all()

    dataset = task_for(cfg).build_dataset(cfg, "train")
    assert task_for(cfg).draw_sample(dataset[0], dataset.metainfo).mode == "RGB"
    predictor = Predictor(tmp_path / "run/iter_1.pth")
    assert predictor.reading.channels == 5
    image = next(path for path in sorted(root.rglob(f"*{suffix}")) if "annotations" not in path.parts)
    found = predictor(image)
    pixels = read_pixels(image, reading=READING)
    again = predictor(pixels)
    first, second = (predictor.describe(one) for one in (found, again))
    assert json.dumps(first) == json.dumps(second)
    assert predictor.draw(image, found).width >= pixels.shape[1]
    with pytest.raises(UserError, match=r"allowed: a path, a PIL image, an array \(H, W, 5\)"):
        predictor(pixels[..., :3])


@pytest.mark.parametrize(("scope", "task"), [("mmdet", "detection"), ("mmseg", "segmentation")])
def test_bands_are_padded_as_the_channels_of_a_picture(scope, task):
    """Channel by channel what mm's step does to three of them."""
    importlib.import_module(task)
    build = importlib.import_module(f"{scope}.registry").TRANSFORMS.build
    pixels = RNG.integers(0, 256, (20, 30, 6), dtype=np.uint8)
    options = dict(size=(40, 48), pad_val=dict(img=114, seg=255))
    ours = build(dict(type="PadBands", **options)).transform(dict(img=pixels.copy()))
    for part in (slice(0, 3), slice(3, 6)):
        theirs = build(dict(type="Pad", **options)).transform(dict(img=np.ascontiguousarray(pixels[..., part])))
        assert np.array_equal(ours["img"][..., part], theirs["img"])
    assert ours["pad_shape"][:2] == theirs["pad_shape"][:2] and ours["img_shape"][:2] == theirs["img_shape"][:2]


def test_a_recipe_of_other_steps_keeps_those_that_know_any_channels(capsys):
    options = {"model.backbone.in_chans": 6, "data_root": "nowhere"}
    cfg = load_config("detection/configs/van/rtmdet_van_b1_300e_coco.py", options)
    kinds = [step.type for step in cfg.train_dataloader.dataset.pipeline]
    assert "PadBands" in kinds and not {"Pad", "CachedMosaic", "CachedMixUp", "YOLOXHSVRandomAug"} & set(kinds)
    assert "left out, since they are for images in RGB: YOLOXHSVRandomAug, CachedMosaic" in capsys.readouterr().err


def test_means_of_another_number_are_one_line():
    config = "classification/configs/demo/van_b0_digits.py"
    options = {
        "model.backbone.in_chans": 5,
        "data_root": "nowhere",
        "model.data_preprocessor.mean": [0.1, 0.2, 0.3, 0.4],
    }
    with pytest.raises(UserError, match=r"data_preprocessor\.mean has 4 numbers, and model\.backbone\.in_chans is 5"):
        load_config(config, options)
    options["model.data_preprocessor.mean"] = [0.1, 0.2, 0.3]
    options["model.data_preprocessor.std"] = [0.1, 0.2, 0.3, 0.4, 0.5]
    preprocessor = load_config(config, options).model.data_preprocessor
    assert preprocessor.mean == pytest.approx([0.1, 0.2, 0.3, 0.2, 0.2])
    assert list(preprocessor.std) == [0.1, 0.2, 0.3, 0.4, 0.5]


def test_typed_numbers_of_mms_models_keep_their_order():
    """mm's models read files as BGR, and bands in the order of the file, which begins with red."""
    for bgr_to_rgb, mean in ((True, [3, 2, 1]), (False, [1, 2, 3])):
        part = dict(type="DetDataPreprocessor", mean=mean, std=[9, 9, 9], bgr_to_rgb=bgr_to_rgb)
        cfg = Config(dict(model=dict(data_preprocessor=part, backbone=dict(arch="van_b0", in_chans=4))))
        use_channels(cfg)
        found = cfg.model.data_preprocessor
        assert found.type == "DetBandsPreprocessor" and found.mean == [3, 2, 1, 2] and "bgr_to_rgb" not in found


def test_the_steps_of_colours_exist():
    names = set()
    for task, scope in (("detection", "mmdet"), ("segmentation", "mmseg")):
        importlib.import_module(task)
        names |= set(importlib.import_module(f"{scope}.registry").TRANSFORMS.module_dict)
    assert set(COLOUR_STEPS) <= names

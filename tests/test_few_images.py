"""Small data: fewer images than a batch, one validation image, more classes than the weights have, one class."""

import json

import dense_data
import pytest
import torch
from conftest import ROOT
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import BatchSampler, DataLoader

from ziggurat.engine.batch_of_few import lowered_batch
from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_training
from ziggurat.engine.summary import SummaryHook

RETINANET = ROOT / "detection/configs/van/retinanet_van_b0_fpn_1x_coco.py"
FPN = ROOT / "segmentation/configs/van/semantic_fpn_van_b0_512x512_40k_ade20k.py"


@pytest.fixture
def quick(cut_depths, monkeypatch):
    """A shallow network, and no drawing of the losses."""
    cut_depths("van_b0", (1, 1, 1, 1))
    monkeypatch.setattr(SummaryHook, "draw", lambda hook, runner: None)


@pytest.mark.parametrize(
    ("images", "size", "drop_last", "lowered"),
    [(5, 8, False, 5), (5, 8, True, 4), (1, 8, True, 1), (8, 8, True, None), (9, 8, True, None), (0, 8, False, None)],
)
def test_a_batch_has_no_more_images_than_there_are(images, size, drop_last, lowered, capsys):
    def loader(kind):
        sampler = kind(range(images))
        return DataLoader(range(images), batch_sampler=BatchSampler(sampler, size, drop_last))

    assert lowered_batch(loader(DefaultSampler)) == lowered
    said = f"note: train_dataloader.batch_size is 8, and there are {images} training images; a batch has {lowered}\n"
    assert capsys.readouterr().err == (said if lowered else "")
    assert lowered_batch(loader(InfiniteSampler)) is None


def run(leaf, root, work_dir, **options):
    given = {"data_root": str(root), "model.backbone.pretrained": None, **dense_data.SMALL_LOADERS}
    given |= {"train_cfg": dict(_delete_=True, type="IterBasedTrainLoop", max_iters=1, val_interval=1)}
    given |= {"param_scheduler": [], "log_processor.by_epoch": False, "default_hooks.checkpoint.interval": 1}
    given["default_hooks.checkpoint.by_epoch"] = False
    if leaf is RETINANET:
        given |= {"model.neck.out_channels": 16, "model.bbox_head.in_channels": 16, "model.bbox_head.feat_channels": 16}
        given |= dense_data.small_coco_pipelines(with_mask=False)
    else:
        given |= dense_data.small_mask_pipelines()
    runner = build_training(load_config(leaf, given | options), work_dir, device="cpu")
    runner.train()
    return runner


def with_classes(root, names):
    """A data set of boxes whose categories are these, with objects of the first ones."""
    for path in (root / "annotations").iterdir():
        content = json.loads(path.read_text())
        ids = [one["id"] for one in content["categories"]]
        content["categories"] = [dict(id=(ids + [50, 51, 52])[i], name=name) for i, name in enumerate(names)]
        kept = {one["id"] for one in content["categories"]}
        content["annotations"] = [one for one in content["annotations"] if one["category_id"] in kept]
        path.write_text(json.dumps(content))
    return root


def test_boxes_of_one_class_and_then_of_more(quick, tmp_path, capsys):
    """One validation image. The weights of one class start a run of four: the layer of the classes is new."""
    counts = {"train": 2, "val": 1}
    one = with_classes(dense_data.write_coco(tmp_path / "one", counts), ["box"])
    first = run(RETINANET, one, tmp_path / "first").model
    four = with_classes(dense_data.write_coco(tmp_path / "four", counts), ["box", "disc", "x", "y"])
    capsys.readouterr()
    weights = {"load_from": str(tmp_path / "first/iter_1.pth"), "optim_wrapper.optimizer.lr": 0.0}
    second = run(RETINANET, four, tmp_path / "second", **weights).model
    said = capsys.readouterr().err
    assert (
        "2 tensors of another shape (first bbox_head.retina_cls.weight: file (9, 16, 3, 3), model (36, 16, 3, 3))"
        in said
    )
    assert "no objects of 2 of 4 classes in the ground truth: x, y\n" in said
    assert torch.equal(first.bbox_head.retina_reg.weight, second.bbox_head.retina_reg.weight)


def test_masks_of_three_classes_and_then_of_five(quick, tmp_path, capsys):
    root = dense_data.write_masks(tmp_path / "data", {"training": 2, "validation": 1})
    names = ["box", "disc", "background", "x", "y"]
    slim = {"model.neck.out_channels": 16, "model.decode_head.in_channels": [16] * 4, "model.decode_head.channels": 16}
    run(FPN, root, tmp_path / "first", classes=names[:3], **slim)
    capsys.readouterr()
    run(FPN, root, tmp_path / "second", classes=names, load_from=str(tmp_path / "first/iter_1.pth"), **slim)
    said = capsys.readouterr().err
    assert "2 tensors of another shape (first decode_head.conv_seg.weight" in said and "2 of 5 classes: x, y" in said

"""Options of a detector's training data: pasted objects, repeated images of rare classes, a limit of objects.

Each is one word of the config. It can be taken out again, and leaves data that the checks, seeds and resuming know.
"""

import copy
import json
import math
from collections import Counter

import dense_data
import numpy as np
import pytest
from conftest import ROOT
from helpers import Losses

from backbones import UserError
from ziggurat.engine.complete import complete
from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_training
from ziggurat.engine.seeding import SampleIndex, with_seeded_items

LSJ = ROOT / "detection/configs/van/mask2former_van_b1_lsj_50e_coco.py"
MASKS = ROOT / "detection/configs/van/mask_rcnn_van_b0_fpn_1x_coco.py"
BOXES = ROOT / "detection/configs/van/retinanet_van_b0_fpn_1x_coco.py"
MOSAIC = ROOT / "detection/configs/van/rtmdet_van_b1_300e_coco.py"
PANOPTIC = ROOT / "detection/configs/van/mask2former_van_b1_lsj_50e_coco_panoptic.py"
COLOURS = ((250, 220, 60), (80, 200, 250))  # of boxes and discs, RGB


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    return dense_data.write_coco(tmp_path_factory.mktemp("coco") / "data", {"train": 8, "val": 2})


def config(leaf, coco, **options):
    return load_config(leaf, {"data_root": str(coco), "model.backbone.pretrained": None, **options})


def training_set(cfg):
    from detection import TASK

    return with_seeded_items(TASK.build_dataset(cfg, "train"))


def plain_steps():
    """Images as they are, so that colours tell the objects."""
    return [
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
        dict(type="PackDetInputs"),
    ]


def test_pasted_objects_have_their_pixels_boxes_masks_and_labels(coco):
    """Every mask shows its class's colour and nothing else, its box is tight, and no object hides another's mask."""
    data = training_set(config(MASKS, coco, copy_paste=True, **{"train_dataloader.dataset.pipeline": plain_steps()}))
    assert len(data) == 8
    counts = []
    for index in range(8):
        for seed in range(4):
            item = data[SampleIndex(index, seed)]
            pixels = item["inputs"].numpy()[::-1]
            truth = item["data_samples"].gt_instances
            assert item["inputs"].dtype.itemsize == 1 and pixels.shape == (3, 64, 64)
            assert len(truth.labels) == len(truth.masks) == len(truth.bboxes)
            total = np.zeros((64, 64), int)
            for label, mask, box in zip(truth.labels.tolist(), truth.masks.masks, truth.bboxes.tensor.tolist()):
                mask = mask.astype(bool)
                total += mask
                assert np.array_equal(pixels[:, mask].T, np.full((mask.sum(), 3), COLOURS[label]))
                rows, columns = np.nonzero(mask)
                assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert total.max() == 1
            bright = (pixels.max(0) > 100) != (total == 1)
            assert not bright.any()  # an object without a mask would be bright
            counts.append(len(truth.labels))
    assert set(counts) >= {2, 3}


def test_images_of_two_sizes_are_padded(coco):
    """Large-scale jitter gives images of any size up to that of the crops."""
    cfg = config(LSJ, coco, copy_paste=True)
    steps = cfg.train_dataloader.dataset.dataset.pipeline
    steps[3].update(scale=(64, 64), ratio_range=(0.5, 2.0))
    steps[4].crop_size = (96, 96)
    data, sizes = training_set(cfg), set()
    for seed in range(12):
        item = data[SampleIndex(0, seed)]
        size, masks = tuple(item["inputs"].shape[1:]), item["data_samples"].gt_instances.masks
        assert size == masks.masks.shape[1:] == item["data_samples"].img_shape and max(size) <= 96
        assert (masks.areas > 0).all() and len(masks)
        sizes.add((size, len(masks)))
    assert len({size for size, _ in sizes}) > 3 and max(count for _, count in sizes) > 2


def test_a_sample_follows_its_seed(coco):
    data = training_set(config(LSJ, coco, copy_paste=True, oversample_thr=0.9))
    one, again, other = (data[SampleIndex(3, seed)] for seed in (5, 5, 6))
    assert one["inputs"].equal(again["inputs"])
    assert one["inputs"].shape != other["inputs"].shape or not one["inputs"].equal(other["inputs"])


OPTIONS = {"copy_paste": True, "oversample_thr": 0.5, "max_objects": 3}


def test_options_are_carried_out_once_and_can_be_taken_out(coco):
    plain = config(LSJ, coco)
    cfg = config(LSJ, coco, **OPTIONS)
    assert cfg.train_dataloader.dataset.type == "MultiImageMixDataset"
    once = cfg.to_dict()
    complete(cfg)
    assert cfg.to_dict() == once
    cfg.oversample_thr, cfg.max_objects = 0.25, 2
    complete(cfg)
    repeated = cfg.train_dataloader.dataset.dataset
    assert repeated.oversample_thr == 0.25 and repeated.dataset.pipeline[1].most == 2
    assert repeated.dataset.type == "CocoDataset" and [step.type for step in repeated.dataset.pipeline[:3:2]] == [
        "LoadImageFromFile",
        "LoadAnnotations",
    ]
    for name in OPTIONS:
        cfg[name] = False
    complete(cfg)
    assert cfg.train_dataloader == plain.train_dataloader


def test_the_checks_of_data_reach_the_images_inside(coco, tmp_path):
    from detection import TASK

    cfg = config(LSJ, coco, **OPTIONS)
    TASK.check_data(cfg)
    cfg.train_dataloader.dataset.dataset.dataset.data_prefix.img = "nowhere"
    with pytest.raises(UserError, match=r"no image folder .*nowhere"):
        TASK.check_data(cfg)


@pytest.mark.parametrize(
    ("leaf", "options", "words"),
    [
        (BOXES, {"copy_paste": True}, "copy_paste needs masks; take a config whose LoadAnnotations has with_mask=True"),
        (PANOPTIC, {"copy_paste": True}, "copy_paste is for instances; a pasted object would cut holes"),
        (PANOPTIC, {"max_objects": 9}, "max_objects is for boxes and instances"),
        (MASKS, {"copy_paste": 3.5}, "copy_paste=3.5; allowed: True, False"),
        (MASKS, {"oversample_thr": 0}, "oversample_thr=0; allowed: numbers above 0, up to 1, and False"),
        (MASKS, {"oversample_thr": True}, "oversample_thr=True; allowed"),
        (MASKS, {"max_objects": 0}, "max_objects=0; allowed: integers from 1 up, and False"),
        (ROOT / "segmentation/configs/van/upernet_van_b0_512x512_160k_ade20k.py", {"copy_paste": True}, "of detection"),
        (ROOT / "classification/configs/demo/van_b0_digits.py", {"max_objects": 1}, "is an option of detection"),
    ],
)
def test_options_that_do_not_fit_are_refused(leaf, options, words, coco):
    with pytest.raises(UserError, match=words) as error:
        config(leaf, coco, **options)
    assert "\n" not in str(error.value)


def test_several_data_sets_are_refused(coco):
    with pytest.raises(UserError, match=r"oversample_thr takes one training data set.*dataset is RepeatDataset"):
        data = config(BOXES, coco).train_dataloader.dataset
        config(BOXES, coco, oversample_thr=0.1, **{
            "train_dataloader.dataset": dict(_delete_=True, type="RepeatDataset", times=2, dataset=data.to_dict())
        })  # fmt: skip


@pytest.fixture(scope="module")
def rare(tmp_path_factory):
    """50 images: discs are in three of them, with a box in one; a category "ring" is in one; one image is empty."""
    root = dense_data.write_coco(tmp_path_factory.mktemp("rare") / "data", {"train": 50, "val": 1})
    path = root / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    content["categories"].append(dict(id=1, name="ring"))
    kept = []
    for one in content["annotations"]:
        number, disc = one["image_id"], one["category_id"] == 3
        if number == 50 or (disc and number > 4) or (not disc and number in (2, 3)):
            continue
        kept.append(one | {"category_id": 1} if disc and number == 4 else one)
    content["annotations"] = kept
    for split in ("train", "val"):
        other = root / f"annotations/instances_{split}2017.json"
        other.write_text(json.dumps(json.loads(other.read_text()) | {"categories": content["categories"]}))
    path.write_text(json.dumps(content))
    return root, content


def plain_repeats(content, threshold):
    """LVIS, section "repeat factor sampling" of arXiv 1908.03195: r(i) = max(1, max over c in i of sqrt(t / f(c)))."""
    images = {image["id"]: set() for image in content["images"]}
    for one in content["annotations"]:
        images[one["image_id"]].add(one["category_id"])
    share = {c: sum(c in found for found in images.values()) / len(images) for c in (1, 3, 7)}
    return {
        number: math.ceil(max([1.0, *(math.sqrt(threshold / share[c]) for c in found)]))
        for number, found in images.items()
    }


@pytest.mark.parametrize("threshold", [0.05, 0.5, 1])
def test_images_of_rare_classes_repeat_as_in_lvis(threshold, rare, tmp_path):
    root, content = rare
    options = {"oversample_thr": threshold, "train_dataloader.dataset.filter_cfg.filter_empty_gt": False}
    data = training_set(config(BOXES, root, **options))
    ids = [data.get_data_info(i)["img_id"] for i in range(len(data))]
    assert {number: ids.count(number) for number in set(ids)} == plain_repeats(content, threshold)


def test_the_log_says_which_images_repeat(rare, tmp_path, capsys):
    options = dense_data.SMALL_LOADERS | {"oversample_thr": 0.06, "max_objects": 1}
    runner = build_training(config(BOXES, rare[0], **options), tmp_path, device="cpu")
    lines = capsys.readouterr().err
    for line in (
        "oversample_thr=0.06: 1 of 49 images repeat, 50 are an epoch: 2 times 1 (0003.png); "
        "rarest: ring 1 image, disc 3 images, box 47 images",
        "max_objects=1: 2 of 49 images have more; 0000.png has the most, 2",
    ):
        assert f"note: {line}\n" in lines
        assert line in next(tmp_path.glob("*/*.log")).read_text()
    assert len(runner.train_dataloader.dataset) == 50


def test_the_log_counts_the_images_that_repeat(rare):
    from ziggurat.engine.repeated import repeats_of

    data = training_set(config(BOXES, rare[0], oversample_thr=1))
    twice = [i for i, times in Counter(data.repeat_indices).items() if times == 2]
    assert len(twice) > 40 and f"2 times {len(twice)} (" in repeats_of(data)
    assert f", ... ({len(twice)} in all))" in repeats_of(data)


def test_images_of_several_scales_are_cropped_as_in_detr(coco):
    """All images are squares of 64 pixels. Those that are not cropped stay squares; half are cropped."""
    data = training_set(config(ROOT / "detection/configs/van/dino_van_b1_12e_coco.py", coco))
    shapes = [data[SampleIndex(0, seed)]["data_samples"] for seed in range(16)]
    squares = [one.img_shape[0] for one in shapes if one.img_shape[0] == one.img_shape[1]]
    assert 3 < len(squares) < 13 and len(set(squares)) > 2 and set(squares) <= set(range(480, 801, 32))
    for one in shapes:
        short, long = sorted(one.img_shape)
        assert short in range(480, 801, 32) or long == 1333
        boxes = one.gt_instances.bboxes.tensor
        assert (boxes >= 0).all() and (boxes[:, 2::4] <= one.img_shape[1]).all()


def test_a_limit_of_objects_draws_other_objects_each_time(coco):
    data = training_set(config(MASKS, coco, max_objects=1, **{"train_dataloader.dataset.pipeline": plain_steps()}))
    drawn = [data[SampleIndex(0, seed)]["data_samples"].gt_instances for seed in range(8)]
    assert all(len(one.labels) == len(one.masks) == 1 for one in drawn)
    assert {int(one.labels) for one in drawn} == {0, 1}
    whole = training_set(config(MASKS, coco, max_objects=2, **{"train_dataloader.dataset.pipeline": plain_steps()}))
    assert whole[SampleIndex(0, 0)]["data_samples"].gt_instances.labels.tolist() == [0, 1]


def test_the_last_epochs_without_mosaics_keep_the_options(coco):
    cfg = config(MOSAIC, coco, oversample_thr=0.5, max_objects=3)
    data = training_set(cfg)
    hook = next(hook for hook in cfg.custom_hooks if hook.type == "PipelineSwitchHook")
    assert [step.type for step in hook.switch_pipeline][:3] == ["LoadImageFromFile", "DrawObjects", "LoadAnnotations"]
    data.pipeline = "another"
    assert data.dataset.pipeline == "another"


def test_a_resumed_run_pastes_what_the_uninterrupted_one_does(rare, tmp_path, cut_depths):
    cut_depths("van_b0", (1, 1, 1, 1))
    options = dense_data.SMALL_LOADERS | dense_data.SLIM_ROI | OPTIONS
    options |= {"model.roi_head.bbox_head.in_channels": 32, "model.roi_head.bbox_head.fc_out_channels": 32}
    options |= {part: None for split in ("val", "test") for part in (f"{split}_dataloader", f"{split}_evaluator")}
    options |= {"val_cfg": None, "test_cfg": None, "train_dataloader.dataset.pipeline": plain_steps()}
    options |= {"train_cfg": dict(_delete_=True, type="IterBasedTrainLoop", max_iters=3), "param_scheduler": []}
    options |= {"default_hooks.checkpoint": dict(_delete_=True, type="CheckpointHook", by_epoch=False, interval=2)}
    options |= {"custom_hooks": [dict(type="Losses")], "log_processor.by_epoch": False}
    options["train_dataloader.sampler.type"] = "InfiniteSampler"

    def losses(work_dir, workers, resume=None):
        given = copy.deepcopy(options) | {"train_dataloader.num_workers": workers}
        runner = build_training(config(MASKS, rare[0], **given), work_dir, resume=resume, device="cpu")
        runner.train()
        return next(hook.values for hook in runner.hooks if isinstance(hook, Losses))

    straight = losses(tmp_path / "straight", 1)
    assert losses(tmp_path / "resumed", 0, resume=tmp_path / "straight/iter_2.pth") == straight[2:]
    assert len(set(straight)) == 3

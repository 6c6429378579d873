"""``oversample_thr`` for classifiers and segmenters: how often an image is seen follows the rule of LVIS."""

import math
from collections import Counter

import dense_data
import numpy as np
import pytest
from conftest import ROOT
from mmengine.registry import DATASETS
from paper_run import RECIPE, options_for
from PIL import Image

from backbones import UserError
from ziggurat.engine.complete import complete
from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_training

UPERNET = ROOT / "segmentation/configs/van/upernet_van_b0_512x512_160k_ade20k.py"
CLASSES = {"cat": 6, "dog": 3, "ant": 1}


def plain_repeats(found, threshold):
    """r(i) = max(1, max over classes of sqrt(t / f(c))), rounded up, for the classes of each image."""
    share = {c: n / len(found) for c, n in Counter(c for labels in found for c in set(labels)).items()}
    return [math.ceil(max([1.0, *(math.sqrt(threshold / share[c]) for c in labels)])) for labels in found]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("images") / "data"
    for split in ("train", "val"):
        for name, count in CLASSES.items():
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (32, 32)).save(root / split / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    """Eight masks: the disc is in two of them, and one mask has nothing but unlabelled pixels."""
    root = dense_data.write_masks(tmp_path_factory.mktemp("masks") / "data", {"training": 8, "validation": 1})
    for number, path in enumerate(sorted((root / "annotations/training").iterdir())):
        mask = np.array(Image.open(path))
        if number > 1:
            mask[mask == 2] = 3
        Image.fromarray(mask if number < 7 else 0 * mask).save(path)
    return root


def segmenter(root, **options):
    given = {"data_root": str(root), "classes": ["box", "disc", "background"], **dense_data.small_mask_pipelines()}
    return load_config(UPERNET, given | {"model.backbone.pretrained": None} | dense_data.SMALL_LOADERS | options)


@pytest.mark.parametrize("threshold", [0.1, 0.5])
def test_classifiers_see_rare_classes_more_often(threshold, folders, tmp_path, capsys, cut_depths):
    cut_depths("van_b0", (1, 1, 1, 1))
    options = options_for(folders, 0, custom_hooks=[], oversample_thr=threshold, **{"train_cfg.max_epochs": 1})
    runner = build_training(load_config(RECIPE, options), tmp_path, device="cpu")
    data = runner.train_dataloader.dataset
    labels = data.dataset.samples.labels.tolist()
    assert sorted(Counter(data.repeat_indices).items()) == list(
        enumerate(plain_repeats([[label] for label in labels], threshold))
    )
    assert "; rarest: ant 1 image, dog 3 images, cat 6 images\n" in capsys.readouterr().err
    assert data[len(data) - 1]["data_samples"] == labels[-1]
    runner.train()
    assert runner.iter == len(data) // 2


@pytest.mark.parametrize("threshold", [0.5, 1])
def test_segmenters_see_rare_classes_more_often(threshold, masks):
    cfg = segmenter(masks, oversample_thr=threshold)
    once = cfg.to_dict()
    complete(cfg)
    assert cfg.to_dict() == once
    data = DATASETS.build(dict(cfg.train_dataloader.dataset, _scope_="mmseg"))
    found = [
        set(np.unique(np.asarray(Image.open(path)))) - {0}
        for path in sorted((masks / "annotations/training").iterdir())
    ]
    assert [Counter(data.repeat_indices)[i] for i in range(8)] == plain_repeats(found, threshold)
    assert data.images_of[1] == 2 and data[0]["data_samples"].gt_sem_seg is not None
    cfg.oversample_thr = False
    complete(cfg)
    assert cfg.train_dataloader == segmenter(masks).train_dataloader


@pytest.mark.parametrize("value", [0, -0.5, 1.5, True, math.nan, "often", [0.1]])
def test_other_values_are_refused(value, folders, masks):
    for load in (lambda: segmenter(masks, oversample_thr=value), lambda: load_config(
        RECIPE, options_for(folders, 0, oversample_thr=value)
    )):  # fmt: skip
        with pytest.raises(
            UserError, match=r"oversample_thr=.*; allowed: numbers above 0, up to 1, and False"
        ) as error:
            load()
        assert "\n" not in str(error.value)

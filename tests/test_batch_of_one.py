"""A batch of one image, on which a norm over pooled maps cannot train, is refused before the training."""

import dense_data
import numpy as np
import pytest
from conftest import ROOT
from mmengine.dataset import DefaultSampler, InfiniteSampler
from PIL import Image
from torch.utils.data import DataLoader

from backbones import UserError
from ziggurat.engine.batch_of_one import check_batches_of_one, first_that_fails, smallest_batch
from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_training

LEAVES = {
    "upernet": "segmentation/configs/van/upernet_van_b0_512x512_160k_ade20k.py",
    "semantic_fpn": "segmentation/configs/van/semantic_fpn_van_b0_512x512_40k_ade20k.py",
}


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    return dense_data.write_masks(tmp_path_factory.mktemp("masks") / "data")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Three training images of two classes, and two for validation."""
    root = tmp_path_factory.mktemp("images")
    for place in ("train/cat/0", "train/cat/1", "train/dog/0", "val/cat/0", "val/dog/0"):
        path = root / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((32, 32, 3), 100, np.uint8)).save(path)
    return root


def segmenter(name, masks, **options):
    settings = dense_data.SMALL_LOADERS | dense_data.small_mask_pipelines()
    settings |= {"model.decode_head.channels": 32, "train_dataloader.sampler": {"type": "InfiniteSampler"}}
    settings |= {"data_root": str(masks), "classes": ["box", "disc", "background"], "model.backbone.pretrained": None}
    return load_config(ROOT / LEAVES[name], {**settings, **options})


def classifier(images, arch, **options):
    settings = {"data_root": str(images), "model.backbone.arch": arch, "train_dataloader.num_workers": 0}
    settings |= {"train_dataloader.persistent_workers": False}
    return load_config(ROOT / "classification/configs/demo/van_b0_digits.py", {**settings, **options})


def test_a_head_that_pools_to_one_value_is_named(masks, tmp_path):
    wanted = (
        r"train_dataloader\.batch_size is 1, and the norm decode_head\.psp_modules\.0\.1\.bn needs more than "
        r"one value; allowed: 2 or more, with optim_wrapper\.accumulative_counts .*; or norm_cfg="
    )
    with pytest.raises(UserError, match=wanted):
        build_training(segmenter("upernet", masks, **{"train_dataloader.batch_size": 1}), tmp_path, device="cpu")


def test_heads_that_train_on_one_image(masks, images):
    """Group norm over eight channels; a head without pooling; ViG's classifier, whose batch norm takes one value."""
    norm = {"type": "GN", "num_groups": 8, "requires_grad": True}
    assert first_that_fails(segmenter("upernet", masks)) == "decode_head.psp_modules.0.1.bn"
    assert first_that_fails(segmenter("upernet", masks, **{"model.decode_head.norm_cfg": norm})) is None
    assert first_that_fails(segmenter("semantic_fpn", masks)) is None
    assert first_that_fails(classifier(images, "vig_tiny")) is None


@pytest.mark.parametrize(
    ("sampler", "size", "drop_last", "smallest"),
    [
        (DefaultSampler, 3, False, 1),
        (DefaultSampler, 3, True, 3),
        (DefaultSampler, 2, False, 2),
        (DefaultSampler, 9, False, 4),
        (InfiniteSampler, 3, False, 3),
    ],
)
def test_the_smallest_batch_of_four_images(sampler, size, drop_last, smallest):
    loader = DataLoader(range(4), size, sampler=sampler(range(4)), drop_last=drop_last)
    assert smallest_batch(loader) == smallest
    if sampler is DefaultSampler:
        assert smallest == min(len(batch) for batch in loader)


def test_a_last_batch_of_one_is_refused(masks, monkeypatch):
    loader = DataLoader(range(4), 3, sampler=DefaultSampler(range(4)))
    with pytest.raises(
        UserError, match=r"the last batch of an epoch has 1 image.*allowed: train_dataloader\.drop_last="
    ):
        check_batches_of_one(segmenter("upernet", masks), loader)

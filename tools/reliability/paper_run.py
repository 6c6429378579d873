"""A short training by the recipe of VAN's paper, with all its randomness, on images of noise."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ziggurat.engine.run import PARTS

RECIPE = Path(__file__).resolve().parent.parent.parent / "classification/configs/van/van_b0_8xb128_paper_in1k.py"
EPOCH = 6  # batches
UNTESTED = dict.fromkeys((*PARTS["val"], *PARTS["test"]))  # options of a training that nothing validates or tests


def write_images(root: Path) -> Path:
    """Two classes with as many images each as an epoch has batches, and one each for the validation."""
    pixels = np.random.default_rng(0)
    for split, count in (("train", EPOCH), ("val", 1)):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                image = Image.fromarray(pixels.integers(0, 256, (4, 4, 3), np.uint8)).resize((48, 48))
                image.save(root / split / name / f"{i}.png")
    return root


def options_for(images: Path, workers: int = 2, **options: Any) -> dict[str, Any]:
    """The recipe of the paper at 32 pixels: two epochs of six batches, a checkpoint after every fourth batch."""
    return {
        "data_root": str(images),
        "input_size": 32,
        "train_cfg.max_epochs": 2,
        "train_dataloader.batch_size": 2,
        "train_dataloader.num_workers": workers,
        **UNTESTED,
        "model.backbone.drop_path_rate": 0.5,
        "param_scheduler": dict(epochs=2, warmup=1),
        "auto_scale_lr.enable": False,
        "custom_hooks": [dict(type="EMAHook", momentum=0.1, update_buffers=True), dict(type="Losses")],
        "default_hooks.checkpoint": dict(by_epoch=False, interval=4, max_keep_ckpts=-1, save_best=None),
        **options,
    }


def validated_options_for(images: Path, workers: int = 2, **options: Any) -> dict[str, Any]:
    """As :func:`options_for`, with a validation after each epoch, in the process itself."""
    split = {name: value for name, value in options_for(images, workers).items() if name not in UNTESTED}
    return {**split, "train_cfg.val_interval": 1, "val_dataloader.num_workers": 0, **options}

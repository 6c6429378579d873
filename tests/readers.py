"""Every way in which an image file is read, as a function of a path and a rule that gives uint8 (H, W, C).

Also checkpoints of random networks that carry their configs.
"""

import importlib

import numpy as np
import torch
from mmengine.registry import init_default_scope

from backbones import FeatureExtractor
from backbones.images import read_image, read_pixels
from backbones.weights import own_meta
from classification.data import LabelledImages
from classification.data.samples import Samples
from ziggurat.engine.config import load_config
from ziggurat.engine.num_classes import set_num_classes
from ziggurat.engine.reading import as_dict
from ziggurat.engine.tasks import task_for


def by_pipeline(task, scope):
    def read(path, reading):
        importlib.import_module(task)
        init_default_scope(scope)
        step = dict(type="LoadImageFromFile", reading=as_dict(reading))
        loader = importlib.import_module(f"{scope}.registry").TRANSFORMS.build(step)
        pixels = loader(dict(img_path=str(path)))["img"]
        return pixels[..., ::-1] if pixels.shape[2] == 3 else pixels

    return read


def by_dataset(in_memory):
    def read(path, reading):
        images = LabelledImages(["a"], Samples([(str(path), 0)]), in_memory=in_memory, reading=as_dict(reading))
        image = images.first_readable(0)[1]
        return image.permute(1, 2, 0).numpy() if isinstance(image, torch.Tensor) else np.asarray(image)

    return read


def by_extractor(path, reading):
    extractor = EXTRACTORS.get(reading.channels)
    if extractor is None:
        options = dict(out_indices=(0,), in_chans=reading.channels, mean=[0.0], std=[1.0])
        extractor = EXTRACTORS[reading.channels] = FeatureExtractor("van_b0", **options)
    extractor.reading = reading
    return (extractor.prepare(path) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


EXTRACTORS = {}
READERS = {
    "read_pixels": lambda path, reading: read_pixels(path, reading=reading),
    "bytes": lambda path, reading: read_pixels("name", path.read_bytes(), reading),
    "detection": by_pipeline("detection", "mmdet"),
    "segmentation": by_pipeline("segmentation", "mmseg"),
    "classification": by_dataset(False),
    "in memory": by_dataset(True),
    "features": by_extractor,
}
PICTURES = {"read_image": lambda path, reading: np.asarray(read_image(path, reading=reading)), **READERS}
CONFIGS = {
    "classification": "classification/configs/demo/van_b0_digits.py",
    "detection": "detection/configs/demo/mask_rcnn_van_b0_digits.py",
    "segmentation": "segmentation/configs/demo/semantic_fpn_van_b0_digits.py",
}


def checkpoint_of(task, folder, **options):
    """A checkpoint of a random network, as a training with these options leaves it."""
    cfg = load_config(CONFIGS[task], {"data_root": "nowhere", **options})
    set_num_classes(cfg.model, 10)
    model = task_for(cfg).build_model(cfg)
    names = [f"class {i}" for i in range(10)]
    own = own_meta(model, None, None, task=task, classes=names, config=cfg.to_dict())
    torch.save({"state_dict": model.state_dict(), "meta": {"ziggurat": own}}, folder / f"{task}.pth")
    return folder / f"{task}.pth"

"""The fingerprint of training data: the same for the same data elsewhere, another one after a change of their lists."""

import json
import shutil
from pathlib import Path

import pytest
from dense_data import write_coco, write_masks
from torch.utils.data import ConcatDataset, DataLoader, Subset

from ziggurat.engine.config import load_config
from ziggurat.engine.fingerprint import fingerprint_of
from ziggurat.engine.tasks import task_for

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = {
    "classification": "classification/configs/demo/van_b0_digits.py",
    "detection": "detection/configs/demo/mask_rcnn_van_b0_digits.py",
    "segmentation": "segmentation/configs/demo/semantic_fpn_van_b0_digits.py",
}


def write_data(task, root, noise_images):
    if task == "classification":
        return Path(shutil.copytree(noise_images, root))
    return (write_coco if task == "detection" else write_masks)(root)


def change(task, root):
    """A small change of the data that leaves their number as it is."""
    if task == "classification":
        (root / "train/cat/0.png").rename(root / "train/cat/x.png")
    elif task == "detection":
        path = root / "annotations/instances_train2017.json"
        content = json.loads(path.read_text())
        content["annotations"][0]["bbox"][0] += 1
        path.write_text(json.dumps(content))
    else:
        for kind in ("images", "annotations"):
            path = next((root / kind / "training").iterdir())
            path.rename(path.with_stem("x"))


def dataset_of(task, root):
    cfg = load_config(ROOT / CONFIGS[task], {"data_root": str(root), "classes": None})
    dataset = task_for(cfg).build_dataset(cfg, "train")
    if hasattr(dataset, "full_init"):
        dataset.full_init()
    return dataset


@pytest.mark.parametrize("task", CONFIGS)
def test_the_same_data_elsewhere_have_the_same_fingerprint(task, noise_images, tmp_path):
    prints = []
    for place in ("one", "another"):
        root = write_data(task, tmp_path / place, noise_images)
        dataset = dataset_of(task, root)
        prints.append(fingerprint_of(DataLoader(dataset, batch_size=2), 3))
    assert prints[0] == prints[1] and prints[0][:3] == (len(dataset), 6, 3)
    wrapped = Subset(ConcatDataset([dataset]), range(1))
    assert fingerprint_of(DataLoader(wrapped, batch_size=2), 3) == prints[0]._replace(images=1)
    change(task, root)
    changed = fingerprint_of(DataLoader(dataset_of(task, root), batch_size=2), 3)
    assert changed.images == prints[0].images and changed.sha256 != prints[0].sha256

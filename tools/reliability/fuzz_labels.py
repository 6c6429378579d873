"""Targets that are annotation files: COCO's boxes and masks, and COCO's panoptic segments."""

import contextlib
import copy
import io
import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

import torch
from fuzz_odd import Deep, Wrong, changed_tree, mutated
from mmdet.registry import METRICS
from mmengine.config import Config
from pycocotools import mask as coco_mask

from detection import TASK
from detection.data import prepare_config
from ziggurat.engine.config import load_config

CONFIG = "detection/configs/demo/mask_rcnn_van_b0_digits.py"
PANOPTIC = "detection/configs/pvig/mask2former_pvig_small_lsj_50e_coco_panoptic.py"
SPLITS = ("train", "val")


def as_json(content: Any) -> bytes:
    """JSON with the words NaN and Infinity, and with ``Deep`` values as nested lists."""
    text = json.dumps(content, default=lambda value: None)
    for levels in deep_levels(content):
        text = text.replace(f"[{levels}]", "[" * levels + "]" * levels)  # a named tuple is written as a list
    return text.encode(errors="surrogatepass")


def deep_levels(content: Any) -> set[int]:
    if isinstance(content, Deep):
        return {content.levels}
    values = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    return {levels for value in values for levels in deep_levels(value)}


class Labels:
    """An annotation file in which something is odd, for a training and for the metric of a validation.

    Args:
        root: the demo's data in COCO's layout.
        folder: a folder to write to.
    """

    config: str
    options: dict[str, Any] = {}

    def __init__(self, root: Path, folder: Path):
        self.folder, self.file = folder, folder / "given.json"
        self.content = self.sample(root)
        self.file.write_bytes(as_json(self.content))
        options = {f"{split}_dataloader.dataset.ann_file": str(self.file.resolve()) for split in SPLITS}
        self.cfg = load_config(self.config, {"data_root": str(root), **options, **self.options})
        self.run(as_json(self.content))  # the right file is taken

    def sample(self, root: Path) -> dict[str, Any]:
        raise NotImplementedError

    def make(self, rng: Random) -> bytes:
        if rng.random() < 0.1:
            return mutated(rng, as_json(self.content))
        content = changed_tree(rng, self.content)
        return as_json(changed_tree(rng, content) if content and rng.random() < 0.2 else content)

    def run(self, given: bytes) -> None:
        self.file.write_bytes(given)
        cfg = copy.deepcopy(self.cfg)
        for split in SPLITS:
            cfg[f"{split}_dataloader"].dataset.pop("metainfo", None)
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            prepare_config(cfg)
            TASK.check_data(cfg, SPLITS)
            for split in SPLITS:
                dataset = TASK.build_dataset(cfg, split)
                for i in range(len(dataset)):
                    check_sample(dataset[i]["data_samples"], len(dataset.metainfo["classes"]))
            check_numbers(self.score(cfg, dataset))

    def score(self, cfg: Config, dataset: Any) -> dict[str, Any]:
        """The metrics of a prediction of one object in each image."""
        with TASK.scoped(cfg):
            metric = METRICS.build(cfg.val_evaluator)
        metric.dataset_meta = dataset.metainfo
        for i in range(len(dataset)):
            info = dataset.get_data_info(i)
            size = (int(info["height"]), int(info["width"]))
            metric.process({}, [dict(img_id=info["img_id"], ori_shape=size, **self.predicted(size, info))])
        return metric.evaluate(len(dataset))

    def predicted(self, size: tuple[int, int], info: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError


def check_sample(sample: Any, classes: int) -> None:
    """Raises ``Wrong`` for objects that no training can use."""
    truth = sample.get("gt_instances")
    if truth is None:
        return
    boxes, labels = truth.bboxes, truth.labels
    boxes = getattr(boxes, "tensor", boxes)
    if not torch.isfinite(boxes).all() or (boxes[:, 2:] < boxes[:, :2]).any():
        raise Wrong(f"boxes {boxes.tolist()}")
    if ((labels < 0) | (labels >= classes)).any():
        raise Wrong(f"labels {labels.tolist()} of {classes} classes")
    if "masks" in truth and len(truth.masks) != len(boxes):
        raise Wrong(f"{len(truth.masks)} masks of {len(boxes)} boxes")


def check_numbers(metrics: dict[str, Any]) -> None:
    """Raises ``Wrong`` for metrics that are neither None nor shares or percents."""
    for name, value in metrics.items():
        if value is not None and not 0 <= value <= 100:
            raise Wrong(f"{name} is {value}")


class Coco(Labels):
    config = CONFIG
    options = {
        "train_dataloader.dataset.data_prefix.img": "val2017",
        "val_dataloader.dataset.pipeline": [dict(type="LoadImageFromFile"), dict(type="PackDetInputs")],
    }

    def sample(self, root: Path) -> dict[str, Any]:
        content = json.loads((root / "annotations/instances_val2017.json").read_text())
        for i, one in enumerate(content["annotations"]):  # each of COCO's three forms of a mask
            x, y, width, height = one["bbox"]
            if i % 3 == 0:
                one["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
            elif i % 3 == 1:
                rows, columns = one["segmentation"]["size"]
                packed = coco_mask.frPyObjects(one["segmentation"], rows, columns)
                one["segmentation"] = dict(size=[rows, columns], counts=packed["counts"].decode())
        content["annotations"] = content["annotations"][:9]
        return content

    def predicted(self, size: tuple[int, int], info: dict[str, Any]) -> dict[str, Any]:
        masks = torch.zeros((1, *size), dtype=torch.bool)
        masks[:, 5:20, 5:20] = True
        boxes = torch.tensor([[5.0, 5.0, 20.0, 20.0]])
        found = dict(bboxes=boxes, scores=torch.ones(1), labels=torch.zeros(1, dtype=torch.long), masks=masks)
        return dict(pred_instances=found)


class Panoptic(Labels):
    config = PANOPTIC

    def sample(self, root: Path) -> dict[str, Any]:
        shutil.copytree(root / "annotations/panoptic_val2017", self.folder / "maps", dirs_exist_ok=True)
        prefix = dict(img="val2017", seg=str((self.folder / "maps").resolve()))
        self.options = {f"{split}_dataloader.dataset.data_prefix": prefix for split in SPLITS}
        load = dict(type="LoadPanopticAnnotations", with_bbox=True, with_mask=True, with_seg=True)
        for split, steps in {"train": [load], "val": []}.items():
            pipeline = [dict(type="LoadImageFromFile"), *steps, dict(type="PackDetInputs")]
            self.options[f"{split}_dataloader.dataset.pipeline"] = pipeline
        return json.loads((root / "annotations/panoptic_val2017.json").read_text())

    def predicted(self, size: tuple[int, int], info: dict[str, Any]) -> dict[str, Any]:
        paths = {key: info[key] for key in ("img_path", "seg_map_path", "segments_info")}
        return paths | dict(pred_panoptic_seg=dict(sem_seg=torch.zeros((1, *size), dtype=torch.long)))


class Maps(Panoptic):
    """Damaged panoptic maps. The annotation file is right."""

    def make(self, rng: Random) -> tuple[str, bytes]:
        self.maps = {path.name: path.read_bytes() for path in sorted((self.folder / "maps").glob("*.png"))}
        name = rng.choice(list(self.maps))
        return name, mutated(rng, self.maps[name])

    def run(self, given: bytes | tuple[str, bytes]) -> None:
        if isinstance(given, bytes):
            return super().run(given)
        name, data = given
        path = self.folder / "maps" / name
        whole = path.read_bytes()
        path.write_bytes(data)
        try:
            super().run(as_json(self.content))
        finally:
            path.write_bytes(whole)

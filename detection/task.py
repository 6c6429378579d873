"""Detection, for tools, runs and ``ziggurat.engine.Predictor``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from backbones.errors import UserError
from detection import views
from detection.anchors import fit_anchors, take_anchors
from detection.coco import COCO_CLASSES
from detection.coco_findings import scored_findings
from detection.counting import counted_pass
from detection.data import prepare_config
from detection.exported import check_runtime, export_outputs, exported, samples_of_export, takes_padding
from detection.extremes import ObjectImagesHook
from detection.losses import LOSSES, loss_places
from detection.own_data import own_findings
from detection.panoptic_result import describe_segments, draw_panoptic, segments_of
from detection.random_data import RandomScenes
from detection.report_page import report_page
from detection.run_lengths import RunLengths, as_text, run_lengths
from detection.tiles import is_panoptic, use_tiles
from detection.training_data import tell_data_options
from detection.weights import WEIGHTS
from ziggurat.engine.console import quiet_imports
from ziggurat.engine.draw import draw_instances, make_palette
from ziggurat.engine.extremes import show_images_in
from ziggurat.engine.images import from_bgr, kind_of, through_pipeline
from ziggurat.engine.results import Instances, Panoptic
from ziggurat.engine.splits import datasets_of
from ziggurat.engine.task import Task
from ziggurat.engine.test_files import set_test_files

LOADERS = ("LoadAnnotations", "LoadPanopticAnnotations")


class Detection(Task):
    """Boxes, and masks if the detector gives them, by mmdet."""

    name, scope, result_type = "detection", "mmdet", Instances
    main_metrics = ("coco/bbox_mAP", "coco/bbox_mAP_50", "coco/segm_mAP", "coco/segm_mAP_50")
    images_hook = ObjectImagesHook.__name__
    losses = LOSSES
    exported_free = ("size",)

    def complete(self, cfg):
        prepare_config(cfg)

    def class_names(self, cfg):
        dataset = (cfg.get("test_dataloader") or {}).get("dataset") or {}
        named = (dataset.get("metainfo") or {}).get("classes") or COCO_CLASSES
        return [named] if isinstance(named, str) else list(named)

    def preprocessing(self, cfg):
        return through_pipeline(cfg.test_dataloader.dataset.pipeline)

    def result(self, output, names):
        size = tuple(output.ori_shape)
        objects = objects_of(output.pred_instances, size, names) if "pred_instances" in output else no_objects(size)
        if "pred_panoptic_seg" not in output:
            return Instances(**objects)
        ids = output.pred_panoptic_seg.sem_seg[0].cpu().numpy()
        panoptic_map, segments = segments_of(ids, names)
        return Panoptic(**objects, panoptic_map=panoptic_map, segments=segments)

    def use_tta(self, cfg, views=None):
        if is_panoptic(cfg.model):
            raise UserError(
                "--tta: panoptic maps of several views cannot be joined; allowed: detectors of boxes or masks"
            )
        super().use_tta(cfg, views)

    def use_tiles(self, cfg, tiles):
        use_tiles(cfg, tiles)

    def findings(self, cfg, split, thorough=False, decode=False, seen=None):
        yield from super().findings(cfg, split, thorough, decode, seen)
        yield from own_findings(cfg, split)
        yield from scored_findings(cfg, split)

    def check_training(self, cfg, model, loader):
        tell_data_options(cfg, loader)

    def use_test_files(self, cfg, report, results):
        prefix = str(Path(results) / "results") if results else None
        metrics = cfg.test_evaluator if isinstance(cfg.test_evaluator, list | tuple) else [cfg.test_evaluator]
        panoptic = any(str(metric["type"]).endswith("PanopticMetric") for metric in metrics)
        theirs = "CocoPanopticMetric" if panoptic else "CocoMetric"
        set_test_files(cfg, theirs, f"Full{theirs}", report=report, outfile_prefix=prefix)
        if report:
            show_images_in(cfg, self.images_hook, report)

    def describe(self, result):
        content = {
            "width": result.size[1],
            "height": result.size[0],
            "boxes": result.boxes.astype(float).round(2).tolist(),
            "scores": result.scores.astype(float).round(4).tolist(),
            "labels": result.labels.tolist(),
            "categories": result.names,
        }
        if result.masks is not None:
            content["masks"] = [as_text(mask) for mask in run_lengths(result.masks)]
        if isinstance(result, Panoptic):
            content["segments"] = describe_segments(result)
        return content

    def draw(self, image, result, palette):
        if isinstance(result, Panoptic):
            return draw_panoptic(image, result, palette)
        colours = [tuple(palette[label]) for label in result.labels]
        return draw_instances(image, result.boxes, result.names, colours, result.scores, result.masks)

    def settle_training(self, cfg, earlier):
        if cfg.get("fit_anchors") and earlier is None:
            with self.scoped(cfg):
                with quiet_imports():  # pycocotools prints what it does
                    dataset = self.build_dataset(cfg, "train")
                fit_anchors(cfg, dataset)

    def follow_checkpoint(self, cfg, own, source):
        super().follow_checkpoint(cfg, own, source)
        earlier = (own or {}).get("config")
        if isinstance(earlier, Mapping):
            take_anchors(cfg, earlier, source)

    def loss_places(self, cfg, name):
        return loss_places(cfg, name)

    def published_models(self):
        return WEIGHTS

    def counted_size(self, cfg):
        return 800, 1280

    def training_size(self, cfg, asked):
        """The training's crops if all have one size, as with large-scale jitter, else 800x1280."""
        steps = next(datasets_of(cfg, "train"), {}).get("pipeline") or []
        crops = [step for step in steps if kind_of(step) == "RandomCrop"]
        crops = [step["crop_size"] for step in crops if step.get("crop_type", "absolute") == "absolute"]
        size = asked or (tuple(crops[-1]) if crops else self.counted_size(cfg))
        for step in (cfg.model.get("data_preprocessor") or {}).get("batch_augments") or []:
            fixed = step.get("size") if kind_of(step) == "BatchFixedSizePad" else None
            if fixed and not (size[0] <= fixed[0] and size[1] <= fixed[1]):
                allowed = "x".join(map(str, fixed))
                raise UserError(f"images of {size[0]}x{size[1]}: the config pads to {allowed}; allowed: sizes up to it")
        return size

    def counted_pass(self, model, images):
        return counted_pass(model, images)

    def exported(self, model):
        return exported(model)

    def export_outputs(self, model):
        return export_outputs(model)

    def check_runtime(self, cfg):
        check_runtime(cfg)

    def takes_padding(self, cfg):
        return takes_padding(cfg)

    def samples_of_export(self, cfg, outputs, data_samples):
        return samples_of_export(cfg, outputs, data_samples)

    def random_data(self, cfg):
        classes = len(self.class_names(cfg))
        head = cfg.model.get("panoptic_head") or {}
        things = head.get("num_things_classes", classes)
        return dict(type=RandomScenes.__name__, things=things, classes=things + head.get("num_stuff_classes", 0))

    def with_truth(self, dataset, cfg):
        """Adds the loading of boxes to a test pipeline, which has none: the evaluator reads the annotation file."""
        for inner in (*(dataset.get("datasets") or ()), dataset.get("dataset")):
            if inner is not None:
                self.with_truth(inner, cfg)
        steps = None if "dataset" in dataset else dataset.get("pipeline")
        if steps and not any(kind_of(step) in LOADERS for step in steps):
            training = next(datasets_of(cfg, "train"), {})
            loaders = [step for step in training.get("pipeline", []) if kind_of(step) in LOADERS]
            masks = any(step.get("with_mask") for step in loaders)
            kind = loaders[0]["type"] if loaders else "LoadAnnotations"
            steps.insert(1, {"type": kind, "with_bbox": True, "with_mask": masks})
        return dataset

    def annotated(self, dataset, index):
        return views.annotated(dataset, index)

    def statistics(self, dataset, sample):
        return views.statistics(dataset, sample)

    def report_page(self, content, folder):
        return report_page(content, folder)

    def draw_sample(self, sample: dict[str, Any], metainfo: dict[str, Any]) -> Image.Image:
        truth, classes = sample["data_samples"].gt_instances, metainfo["classes"]
        labels = truth.labels.tolist()
        palette = metainfo.get("palette") or make_palette(len(classes))
        boxes = getattr(truth.bboxes, "tensor", truth.bboxes)
        return draw_instances(
            from_bgr(sample["inputs"]),
            boxes.numpy(),
            [classes[label] for label in labels],
            [tuple(palette[label]) for label in labels],
            masks=truth.masks.to_ndarray().astype(bool) if "masks" in truth else None,
        )


def objects_of(found: Any, size: tuple[int, int], names: Sequence[str]) -> dict[str, Any]:
    """The fields of ``Instances`` for mmdet's ``pred_instances``, which are in any order."""
    found = found.cpu()
    found = found[torch.argsort(found.scores, descending=True, stable=True)].numpy()
    masks = found.get("masks")
    if masks is not None:
        masks = RunLengths(masks, size) if isinstance(masks, list) else masks.astype(bool)
    return dict(
        size=size,
        boxes=found.bboxes.astype(np.float32),
        scores=found.scores.astype(np.float32),
        labels=found.labels.astype(np.int64),
        names=[str(names[i]) for i in found.labels],
        masks=masks,
    )


def no_objects(size: tuple[int, int]) -> dict[str, Any]:
    boxes, scores, labels = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
    return dict(size=size, boxes=boxes, scores=scores, labels=labels, names=[])


TASK = Detection()

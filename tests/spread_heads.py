"""Small detectors whose scores and boxes are spread as after a training, so that suppression has work."""

import copy

import small_heads
import torch
from benchmark_detector_exports import spread
from mmengine.dataset import pseudo_collate

from ziggurat.engine.tasks import task_for

COUNT = 50  # objects at most
DENSE = ("retinanet", "atss", "gfl", "rtmdet", "fcos")
NAMES = (*DENSE, "mask_rcnn", "cascade_mask_rcnn", "dino", "deformable_detr")


def detector(name, image, side=256, **options):
    """A config and its model, spread on ``image``. Options are those of the test_cfg that chooses the objects."""
    name, change = CHANGED.get(name, (name, lambda cfg: None))
    kind, slim = small_heads.DETECTORS[name]
    chooses = "model.test_cfg.rcnn" if "rcnn" in name else "model.test_cfg"
    wanted = {"max_per_img": COUNT} | ({} if name == "dino" else {"score_thr": 0.3}) | options
    slim = slim | {f"{chooses}.{key}": value for key, value in wanted.items()}
    if name == "dino":
        slim = slim | {"model.num_queries": COUNT + 10}
    cfg = small_heads.config_of("detection", kind, slim, side)
    change(cfg)
    model = small_heads.built(cfg)
    spread(model, lambda: predicted(cfg, model, image))
    return cfg, model


def prepared_data(cfg, model, image):
    """The network's input and the sample of an image, by the config's test preprocessing."""
    task = task_for(cfg)
    with task.scoped(cfg):
        return model.data_preprocessor(pseudo_collate([task.preprocessing(cfg)(image)]))


@torch.no_grad()
def predicted(cfg, model, image):
    """mmdet's own objects for an image."""
    with task_for(cfg).scoped(cfg):
        data = prepared_data(cfg, model, image)
        return model.predict(data["inputs"], copy.deepcopy(data["data_samples"]))[0].pred_instances


def as_fcos(cfg):
    """A RetinaNet's config with the head of FCOS."""
    old = cfg.model.bbox_head
    cfg.model.type = "FCOS"
    cfg.model.bbox_head = {name: old[name] for name in ("num_classes", "in_channels", "feat_channels", "stacked_convs")}
    cfg.model.bbox_head |= dict(type="FCOSHead", strides=[8, 16, 32, 64, 128], norm_on_bbox=True)
    cfg.model.train_cfg = None


def as_deformable_detr(cfg):
    """A DINO's config as one of a Deformable DETR of one stage, with queries as points."""
    cfg.model.type, cfg.model.bbox_head.type = "DeformableDETR", "DeformableDETRHead"
    cfg.model.as_two_stage = cfg.model.with_box_refine = False
    cfg.model.pop("dn_cfg")


CHANGED = {"fcos": ("retinanet", as_fcos), "deformable_detr": ("dino", as_deformable_detr)}

"""The leaf configs of detection and segmentation, for several test files: each is loaded and built once a process."""

import copy
import importlib
from functools import cache
from pathlib import Path

import torch
from mmengine.registry import init_default_scope

from backbones import list_archs
from ziggurat.engine.config import load_config
from ziggurat.engine.tasks import task_of

ROOT = Path(__file__).resolve().parent.parent
LEAVES = sorted(p.relative_to(ROOT) for t in ("detection", "segmentation") for p in ROOT.glob(f"{t}/configs/*/*.py"))
LEAVES = [path for path in LEAVES if path.parent.name != "_base_"]
WHOLE_LEAVES = [path for path in LEAVES if path.parent.name != "demo"]
# The beginning of a leaf's name -> the method's name in published tables, and the beginning of its type in a config.
METHODS = {
    "mask_rcnn": ("Mask R-CNN", "MaskRCNN"),
    "cascade_mask_rcnn": ("Cascade Mask R-CNN", "CascadeRCNN"),
    "retinanet": ("RetinaNet", "RetinaNet"),
    "atss": ("ATSS", "ATSS"),
    "gfl": ("GFL", "GFL"),
    "mask2former": ("Mask2Former", "Mask2Former"),
    "rtmdet": ("RTMDet", "RTMDet"),
    "dino": ("DINO", "DINO"),
    "segformer": ("SegFormer", "SegformerHead"),
    "deeplabv3plus": ("DeepLabV3+", "DepthwiseSeparableASPPHead"),
    "upernet": ("UPerNet", "UPerHead"),
    "gn_upernet_7x7": ("UPerNet with gnconv fusion", "GNUPerHead"),
    "gn_upernet_gf": ("UPerNet with gnconv fusion", "GNUPerHead"),
    "semantic_fpn": ("Semantic FPN", "FPNHead"),
    "light_ham": ("Light-Ham", "LightHamHead"),
    "hamnet": ("HamNet", "HamHead"),
}


@cache
def config(path):
    """The completed config. Treat it as read-only."""
    return load_config(ROOT / path)


@cache
def model(path):
    """The model, on the meta device."""
    return build(config(path))


def build(cfg):
    library = {"detection": "mmdet", "segmentation": "mmseg"}[task_of(cfg)]
    init_default_scope(library)
    with torch.device("meta"):
        return importlib.import_module(f"{library}.registry").MODELS.build(copy.deepcopy(cfg.model))


def name_parts(path):
    """``("mask_rcnn", "van_b2", ["fpn", "1x", "coco"])`` of ``mask_rcnn_van_b2_fpn_1x_coco.py``."""
    arch = max((arch for arch in list_archs() if f"_{arch}_" in path.stem), key=len)
    head, rest = path.stem.split(f"_{arch}_")
    return head, arch, rest.split("_")

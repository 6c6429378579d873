"""Multi-scale pyramid backbones for dense prediction: one package for classification, detection and segmentation.

net = backbones.create_backbone("van_b2", pretrained="van_b2.in1k")
maps = net(images)  # (B, 3, H, W) to one (B, C_i, H_i, W_i) map per stage, finest first
"""

from backbones.errors import UserError
from backbones.features import FeatureExtractor, FeaturePyramid
from backbones.hornet import HorNet
from backbones.param_groups import param_groups
from backbones.pvig import PViG
from backbones.pyramid import FeatureInfo, PyramidBackbone
from backbones.registry import FAMILIES, create_backbone, list_archs
from backbones.simple_pyramid import SimpleFeaturePyramid
from backbones.van import VAN
from backbones.version import __version__
from backbones.vig import ViG
from backbones.vvt import VVT
from backbones.weights import WEIGHTS, LoadReport, list_weights, load_weights

__all__ = [
    "FAMILIES",
    "VAN",
    "VVT",
    "WEIGHTS",
    "FeatureExtractor",
    "FeatureInfo",
    "FeaturePyramid",
    "HorNet",
    "LoadReport",
    "PViG",
    "PyramidBackbone",
    "SimpleFeaturePyramid",
    "UserError",
    "ViG",
    "__version__",
    "create_backbone",
    "list_archs",
    "list_weights",
    "load_weights",
    "param_groups",
]

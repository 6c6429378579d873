"""Registers networks, data set, sampler and metric with mmengine, so configs find them by name."""

from mmengine.registry import DATA_SAMPLERS, DATASETS, HOOKS, METRICS, MODELS

from classification.data import ImageFolder
from classification.distill import BackboneFileHook, Distiller, UnlabelledImages
from classification.metrics import Accuracy
from classification.model import BatchPreprocessor, Classifier
from classification.samplers import RepeatAugmentation
from engine import installed
from engine.register import register_backbones

installed.check()
register_backbones()
for registry, module in (
    (MODELS, Classifier),
    (MODELS, BatchPreprocessor),
    (MODELS, Distiller),
    (DATASETS, ImageFolder),
    (DATASETS, UnlabelledImages),
    (HOOKS, BackboneFileHook),
    (DATA_SAMPLERS, RepeatAugmentation),
    (METRICS, Accuracy),
):
    registry.register_module(module=module, force=True)

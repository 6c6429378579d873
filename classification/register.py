"""Registers networks, data sets, sampler, metric and hook with mmengine, so configs find them by name."""

from mmengine.registry import DATA_SAMPLERS, DATASETS, METRICS, MODELS

from classification.data import CifarImages, CsvImages, HubImages, IlsvrcImages, ImageFolder, ShardImages
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
    (DATASETS, ImageFolder),
    (DATASETS, IlsvrcImages),
    (DATASETS, CsvImages),
    (DATASETS, CifarImages),
    (DATASETS, ShardImages),
    (DATASETS, HubImages),
    (DATA_SAMPLERS, RepeatAugmentation),
    (METRICS, Accuracy),
):
    registry.register_module(module=module, force=True)

"""Registers networks, data sets, sampler, metric and hook with mmengine, so configs find them by name."""

from mmengine.registry import DATA_SAMPLERS, DATASETS, HOOKS, METRICS, MODELS

from classification.data import CifarImages, CsvImages, HubImages, IlsvrcImages, ImageFolder, ShardImages
from classification.distill import BackboneFileHook, Distiller, UnlabelledImages
from classification.extremes import ImagesHook
from classification.metrics import Accuracy, CalibrationError
from classification.model import BatchPreprocessor, Classifier
from classification.real_labels import RealLabels
from classification.report import Report
from classification.samplers import RepeatAugmentation
from classification.tta import AveragedViews, FiveCrops
from ziggurat.engine import installed
from ziggurat.engine.register import register_backbones

installed.check()
register_backbones()
for registry, module in (
    (MODELS, Classifier),
    (MODELS, BatchPreprocessor),
    (MODELS, AveragedViews),
    (MODELS, Distiller),
    (DATASETS, ImageFolder),
    (DATASETS, RealLabels),
    (DATASETS, FiveCrops),
    (DATASETS, IlsvrcImages),
    (DATASETS, CsvImages),
    (DATASETS, CifarImages),
    (DATASETS, ShardImages),
    (DATASETS, HubImages),
    (DATASETS, UnlabelledImages),
    (HOOKS, BackboneFileHook),
    (HOOKS, ImagesHook),
    (DATA_SAMPLERS, RepeatAugmentation),
    (METRICS, Accuracy),
    (METRICS, CalibrationError),
    (METRICS, Report),
):
    registry.register_module(module=module, force=True)

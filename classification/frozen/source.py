"""What features are made from: a network with its weights, the maps that are pooled, and the images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from backbones import WEIGHTS, FeatureExtractor, __version__, list_archs
from backbones.checks import MIN_SIZE, check_int, resolve_out_indices
from backbones.errors import UserError, unknown
from backbones.pooling import POOLS, pooled
from backbones.registry import arch_of, family_of
from backbones.weights import evaluation_of, read_own_meta
from backbones.weights.identity import weights_sha256
from backbones.weights.source import read_source
from backbones.weights.trained_reading import trained_reading
from classification.frozen.splits import build_splits, describe_splits, read_config, test_transform
from classification.task import TASK
from ziggurat.engine.own_config import config_from
from ziggurat.engine.reading import as_dict, use_reading
from ziggurat.engine.splits import datasets_of

DEFAULT = {"input_size": 224, "crop_pct": 0.875, "interpolation": "bicubic"}
KEPT = ("input_size", "crop_pct", "crop_mode", "interpolation")  # of a test transform; the rest is for other uses


class Source:
    """A network, the maps that are pooled, and two splits of images: all that the features follow from.

    Args:
        model: the weights, as a name of the weights table, a URL or a file; or an arch, for random weights.
        data: a folder in ImageNet's layout, or a config of classification. Both splits get the test transform.
        arch: the arch of the weights; None finds it by their tensors.
        stages: the stages whose maps are pooled, counted from 0; negatives count from the end.
        pool: ``"mean"`` or ``"gem"``, see :mod:`backbones.pooling`.
        input_size: pixels of a side, 32 or more. None takes the config's, else that of the run that wrote the weights
            or of their authors, else 224.
        crop_pct: the part of the short side that the centre crop keeps, above 0 and up to 1. None as for
            ``input_size``, at last 0.875.
        device: where to compute.
        dtype: the type to compute in.
        seed: of random weights.
        cfg_options: changes of the config in ``data``.

    Attributes:
        extractor: the network and its normalisation.
        splits: the data sets, ``{"train": ..., "val": ...}``. An item has ``inputs``, uint8 RGB (3, H, W), and
            ``data_samples``, the class index.
        classes: the class names, by index.
        width: length of a feature vector.

    Raises:
        UserError: an argument is unknown or out of range, or weights or data cannot be used.
    """

    def __init__(
        self,
        model: str,
        data: str | Path,
        arch: str | None = None,
        stages: Sequence[int] = (-1,),
        pool: str = "mean",
        input_size: int | None = None,
        crop_pct: float | None = None,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
        cfg_options: Sequence[str] = (),
    ):
        if pool not in POOLS:
            raise unknown("pool", pool, POOLS)
        arch, self.weights = arch_and_weights(model, arch)
        stages = resolve_out_indices(stages, len(family_of(arch).ARCHS[arch].depths), "stages")
        cfg = read_config(data, cfg_options)
        if cfg.get("reading") is None:
            cfg.reading = as_dict(trained_reading(arch, self.weights)) or None
            use_reading(cfg, TASK.scope)
        found = test_transform(cfg) or trained_transform(arch, self.weights)
        given = {"input_size": input_size, "crop_pct": crop_pct}
        self.transform = checked(DEFAULT | kept(found) | {key: v for key, v in given.items() if v is not None})
        self.splits = build_splits(cfg, dict(self.transform), str(data))
        self.classes = [str(name) for name in self.splits["train"].metainfo["classes"]]
        torch.manual_seed(seed)
        self.extractor = FeatureExtractor(arch, stages, self.weights, device, dtype)
        self.pool, self.width = pool, sum(info.channels for info in self.extractor.feature_info)
        self.data, self.cfg, self.seed = str(data), cfg, seed

    def vectors(self, images: Tensor) -> Tensor:
        """uint8 RGB (B, 3, H, W) to float32 (B, width)."""
        return pooled(self.extractor(images.to(self.extractor.device)), self.pool)

    def describe(self) -> dict[str, Any]:
        """All that the features follow from, as a dict of JSON's types, and where it was found.

        Lists the files of both splits and reads the weights, which takes seconds.
        """
        statistics, net = self.extractor.statistics, self.extractor.net
        return {
            "arch": net.arch,
            "weights": f"random, seed {self.seed}" if self.weights is None else str(self.weights),
            "weights_sha256": weights_sha256(net, self.weights),
            "stages": list(net.out_indices),
            "pool": self.pool,
            "width": self.width,
            "transform": self.transform,
            "mean": list(statistics.mean),
            "std": list(statistics.std),
            "statistics": statistics.source,
            "computed_in": str(self.extractor.dtype).removeprefix("torch."),
            "classes": self.classes,
            "data": self.data,
            "splits": describe_splits(self.cfg, self.splits),
            "versions": {"ziggurat": __version__, "torch": torch.__version__, "timm": timm.__version__},
        }


def arch_and_weights(model: str, arch: str | None) -> tuple[str, str | None]:
    """The arch and the weights that ``model`` names; None stands for random weights."""
    if model in list_archs():
        if arch not in (None, model):
            raise UserError(f"the model is {model} and --arch {arch}; allowed: weights with --arch, or an arch without")
        return model, None
    if model not in WEIGHTS and "://" not in model and not Path(model).is_file():
        raise unknown("model (and no such file)", model, [*list_archs(), *WEIGHTS])
    return arch or arch_of(model), model


def trained_transform(arch: str, weights: str | None) -> dict[str, Any]:
    """The test transform of the run that wrote the weights, else of their authors; empty for random weights."""
    if weights is None:
        return {}
    own = read_own_meta(read_source(None, weights, ahead=True)[1]) if weights not in WEIGHTS else None
    if not own or own["task"] != "classification" or own["config"] is None:
        return evaluation_of(arch, weights).options()
    return dict(next(datasets_of(config_from(own["config"], weights), "test")).get("transform") or {})


def kept(transform: dict[str, Any]) -> dict[str, Any]:
    """The part of a test transform that says how an image becomes ``input_size`` pixels large."""
    return {key: transform[key] for key in KEPT if transform.get(key) is not None}


def checked(transform: dict[str, Any]) -> dict[str, Any]:
    """``transform`` if its sizes are allowed; UserError otherwise."""
    size, crop = transform["input_size"], transform["crop_pct"]
    check_int("input_size", min(size[-2:]) if isinstance(size, list | tuple) else size, MIN_SIZE, None)
    if isinstance(crop, bool) or not isinstance(crop, int | float) or not 0 < crop <= 1:
        raise UserError(f"crop_pct is {crop!r}; allowed: above 0 and up to 1")
    return transform

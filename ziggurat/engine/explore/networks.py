"""Networks of the page: from an arch, published weights or a checkpoint to a backbone, and its head."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backbones import WEIGHTS, FeatureExtractor, PyramidBackbone, UserError, list_archs
from backbones.errors import shown
from backbones.files import is_path
from backbones.heads import Head
from backbones.reading import Reading
from backbones.weights.fetch import is_fetched, locate
from ziggurat.engine.normalisation import statistics_of
from ziggurat.engine.own_config import carries_config
from ziggurat.engine.predictor import Predictor
from ziggurat.engine.project_configs import config_named
from ziggurat.engine.published import check_model_name, published_model
from ziggurat.engine.results import Instances, Scores
from ziggurat.engine.wrappers import unwrap

RANDOM = "random"


@dataclass(frozen=True)
class Network:
    """A network of the page.

    Attributes:
        backbone: in eval mode.
        weights: ``"random"``, or what they were opened from.
        mean, std: (C, 1, 1), on the device, for images in 0..1.
        reading: the rule by which image files are read.
        head: the head of a classifier, or None.
        names: the class names of a whole model.
        predictor: the whole model, or None for a backbone alone.
    """

    backbone: PyramidBackbone
    weights: str
    mean: Tensor
    std: Tensor
    reading: Reading
    head: Head | None = None
    names: tuple[str, ...] = ()
    predictor: Predictor | None = None

    @property
    def title(self) -> str:
        """The network for people: ``van_b0 with random weights``, ``van_b0 of epoch_12.pth``."""
        return f"{self.backbone.arch} {'with random weights' if self.weights == RANDOM else f'of {self.weights}'}"

    @property
    def draws(self) -> bool:
        """Whether it predicts what is drawn on an image."""
        return self.predictor is not None and self.predictor.task.result_type is not Scores

    @property
    def has_objects(self) -> bool:
        """Whether its predictions are objects with scores."""
        return self.predictor is not None and issubclass(self.predictor.task.result_type, Instances)


def check_here(model: Any, weights: Any) -> None:
    """Raises UserError for what the page may not ask for: a download, or a file that is not there."""
    for name, value in (("network", model), ("weights", weights)):
        if not isinstance(value, str) or not is_path(value):
            raise UserError(f"{name} is {shown(value)}; allowed: a text")
    source = weights if model in list_archs() else model
    if source == RANDOM:
        return
    if not source.strip():
        raise UserError("no file is named; allowed: the path of a checkpoint, or of a file of weights")
    if source in WEIGHTS and not is_fetched(source):
        raise UserError(f"weights {source} are not on this machine; allowed: ziggurat explore {source} fetches them")
    if source not in WEIGHTS and not os.path.isfile(os.path.expanduser(source)):
        if "://" not in source:  # as on the command line, with the nearest names; downloads nothing
            locate(model, source) if model in list_archs() else check_model_name(source)
        raise UserError(f"no such file: {source}; allowed: the path of a checkpoint, or of a file of weights")


def version_of(source: str) -> int | None:
    """What changes when a file is written anew; None for what is no file."""
    try:
        return os.stat(os.path.expanduser(source)).st_mtime_ns
    except OSError:
        return None


def open_network(model: str, weights: str, device: torch.device) -> Network:
    """The network of an arch with its weights, or of a checkpoint, published weights, or a published model.

    Args:
        model: an arch; else a name or file as for ``Predictor``, or a file of a backbone's weights.
        weights: of an arch: ``"random"``, or a name or file. Else not read.
        device: where to compute.

    Raises:
        UserError: the weights cannot be opened, or are of another arch.
    """
    arch = model if model in list_archs() else None
    source = weights if arch else model
    if source == RANDOM:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # so that a reload shows the same
            return of_backbone(FeatureExtractor(arch, device=device), RANDOM)
    source = os.path.expanduser(source)
    predictor = whole_model(source, device)
    if predictor is None:
        return of_backbone(FeatureExtractor(arch, pretrained=source, device=device), source)
    network = of_predictor(predictor, source)
    if arch not in (None, network.backbone.arch):
        raise UserError(f"{source} is of {network.backbone.arch}; allowed: weights of {arch}")
    return network


def whole_model(source: str, device: torch.device) -> Predictor | None:
    """The model of weights that hold more than a backbone; None for those of a backbone alone."""
    if config_named(source) is not None or carries_config(source):
        return Predictor(source, device=device)
    try:
        return Predictor(source, device=device)
    except UserError:  # the extractor then opens the file, and says what is wrong with it
        return None


def of_backbone(extractor: FeatureExtractor, weights: str) -> Network:
    mean, std = (values[:, None, None] for values in (extractor.mean, extractor.std))
    return Network(extractor.net, weights, mean, std, extractor.reading)


def of_predictor(predictor: Predictor, weights: str) -> Network:
    model = unwrap(predictor.model)
    backbone = next((module for module in model.modules() if isinstance(module, PyramidBackbone)), None)
    if backbone is None:
        raise UserError(f"{weights} has no backbone of this project; allowed: models whose backbone is one")
    head = getattr(model, "head", None)
    mean, std = statistics_of(model, predictor.cfg)
    mean, std = (
        torch.tensor(values, device=predictor.device).float().expand(backbone.in_chans)[:, None, None]
        for values in (mean or [0.0], std or [1.0])
    )
    return Network(
        backbone,
        weights,
        mean,
        std,
        predictor.reading,
        head if isinstance(head, Head) else None,
        tuple(predictor.names),
        predictor,
    )


def find_weights(model: str) -> None:
    """Downloads what a model of the command line names, if it is not here.

    Raises:
        UserError: it is neither an arch, nor weights, nor a published model, nor a file.
    """
    if model in list_archs() or published_model(model) is not None:  # which refuses nearly the name of a config
        return
    check_model_name(model)
    is_named = model in WEIGHTS or "://" in model
    if not (locate(None, model) if is_named else Path(model)).is_file():
        raise UserError(f"no such file: {model}; allowed: an arch, the name of weights, the path of a checkpoint")

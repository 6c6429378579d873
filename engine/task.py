"""What a task offers.

Tools, runs and ``Predictor`` know tasks by this class alone. Each task's package has its one instance, ``TASK``.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import DATASETS, MODELS, init_default_scope
from PIL import Image
from torch import nn

from backbones.checks import MIN_SIZE
from backbones.errors import UserError
from engine.draw import Colour, make_palette
from engine.formats import formats_of
from engine.results import Result
from engine.splits import SPLITS


class Task(ABC):
    """One task. A config belongs to it where ``custom_imports`` names its package.

    Attributes:
        name: of the package, e.g. ``"detection"``.
        scope: the mm library whose registries hold its models, data sets and transforms, e.g. ``"mmdet"``.
    """

    name: str
    scope: str

    @abstractmethod
    def complete(self, cfg: Any) -> None:
        """Fills in, in place, what a config leaves open about its data: roots, test set, classes, number of classes.

        Raises:
            UserError: a value makes no sense, or the data that is there is not of its format.
        """

    @abstractmethod
    def class_names(self, cfg: Any) -> list[str] | None:
        """The class names that a config implies, for checkpoints that carry none; None where it implies none."""

    @abstractmethod
    def preprocessing(self, cfg: Any) -> Callable[[str | Path | np.ndarray], dict[str, Any]]:
        """The config's test preprocessing, as a function of one image.

        The function takes a path, or uint8 RGB pixels (H, W, 3). The function returns what the test data set gives for
        that image, without the truth. It raises UserError for an image that cannot be read or has a side below 32
        pixels.
        """

    @abstractmethod
    def result(self, output: Any, names: Sequence[str]) -> Result:
        """What the model's ``test_step`` gave for one image, as plain arrays.

        Args:
            output: one entry of the list that ``test_step`` returns.
            names: of the classes, by index.
        """

    @abstractmethod
    def describe(self, result: Any) -> dict[str, Any]:
        """A result as JSON can hold it."""

    @abstractmethod
    def draw(self, image: Image.Image, result: Any, palette: Sequence[Colour]) -> Image.Image:
        """A result drawn on its image; ``palette`` has an RGB colour, 0..255, for each class."""

    @abstractmethod
    def draw_sample(self, sample: dict[str, Any], metainfo: dict[str, Any]) -> Image.Image:
        """An item of a data set, after its pipeline, with the truth drawn on it.

        Args:
            sample: what ``dataset[index]`` gives.
            metainfo: of the data set: ``classes`` and, where there is one, ``palette``.
        """

    def with_truth(self, dataset: Any, cfg: Any) -> Any:
        """The config of a data set that loads its truth too, changed in place. Testing may do without the truth."""
        return dataset

    def palette(self, cfg: Any, num_classes: int) -> list[Colour]:
        """A colour for each class: the test set's, where the config gives one for each, else generated."""
        dataset = (cfg.get("test_dataloader") or {}).get("dataset") or {}
        given = (dataset.get("metainfo") or {}).get("palette") or []
        return given if len(given) >= num_classes else make_palette(num_classes)

    def check_data(self, cfg: Any, splits: Sequence[str] = SPLITS) -> None:
        """Looks at the files of the splits before a run is built, as far as their formats are known.

        Raises:
            UserError: as ``engine.formats.Format.check`` of each data set.
        """
        seen: list[Any] = []
        for split in splits:
            for dataset, found in formats_of(cfg, split, self.scope_of(cfg)):
                if dataset not in seen:
                    found.check(dataset, split)
                    seen.append(dataset)

    def build_model(self, cfg: Any) -> nn.Module:
        """The config's model, without the weights that ``pretrained`` names."""
        init_default_scope(self.scope_of(cfg))
        return MODELS.build(cfg.model)

    def build_dataset(self, cfg: Any, split: str) -> Any:
        """The data set of a split, with its truth."""
        init_default_scope(self.scope_of(cfg))
        dataset = copy.deepcopy(cfg[f"{split}_dataloader"].dataset)
        return DATASETS.build(self.with_truth(dataset, cfg))

    def scope_of(self, cfg: Any) -> str:
        """The scope of the config's registries: what it says itself, else the task's."""
        return cfg.get("default_scope") or self.scope


def check_size(name: str, height: int, width: int) -> None:
    """Raises UserError for an image that is too small for the networks; ``name`` is for the message."""
    if min(height, width) < MIN_SIZE:
        raise UserError(f"{name} is {width}x{height} pixels; allowed: {MIN_SIZE}x{MIN_SIZE} and larger")

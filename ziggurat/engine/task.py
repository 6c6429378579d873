"""The protocol of a task.

Tools, runs and ``Predictor`` use a task only through the class ``Task``. Each task's package has an instance, ``TASK``.
"""

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import DATASETS, MODELS, DefaultScope, init_default_scope
from PIL import Image
from torch import Tensor, nn

from backbones.errors import UserError
from ziggurat.engine.draw import Colour, make_palette
from ziggurat.engine.findings import Finding, caught, follow
from ziggurat.engine.formats import Format, formats_of
from ziggurat.engine.inside import check_list
from ziggurat.engine.results import Result
from ziggurat.engine.splits import SPLITS, datasets_of
from ziggurat.engine.task_testing import TaskTesting
from ziggurat.engine.task_training import TaskTraining
from ziggurat.engine.task_views import TaskViews


class Task(TaskViews, TaskTraining, TaskTesting):
    """One task. A config belongs to the task whose package its ``custom_imports`` names.

    Attributes:
        name: the package's name, e.g. ``"detection"``.
        scope: the mm library whose registries hold its models, data sets and transforms, e.g. ``"mmdet"``.
        result_type: the class of its results, e.g. ``Instances``.
        main_metrics: the metrics that the console shows for an epoch, the most important first.
        images_hook: the type of the hook that shows a test's best and worst images; None for a task without one.
        exported_free: the axes that may be free when a runtime computes an exported model: ``"batch"``, ``"size"``.
    """

    name: str
    scope: str
    result_type: type[Result]
    main_metrics: tuple[str, ...] = ()
    images_hook: str | None = None
    exported_free: tuple[str, ...] = ("batch", "size")

    @abstractmethod
    def complete(self, cfg: Any) -> None:
        """Fills in the data of a config, in place: roots, test set, class names, number of classes.

        Raises:
            UserError: a value is not allowed, or the data are not of their format.
        """

    @abstractmethod
    def class_names(self, cfg: Any) -> list[str] | None:
        """The class names by a config, for checkpoints that carry none; None if the config does not tell."""

    @abstractmethod
    def preprocessing(self, cfg: Any) -> Callable[[str | Path | np.ndarray], dict[str, Any]]:
        """The config's test preprocessing, as a function of one image.

        The function takes a path, or uint8 RGB pixels (H, W, 3). It returns the sample that the test data set would
        give for that image, without the truth. It raises UserError for an image that cannot be read or has a side below
        32 pixels.
        """

    @abstractmethod
    def result(self, output: Any, names: Sequence[str]) -> Result:
        """The result for one image, as arrays.

        Args:
            output: the image's entry in the list that the model's ``test_step`` returns.
            names: the class names, by index.
        """

    @abstractmethod
    def describe(self, result: Any) -> dict[str, Any]:
        """A result as a dict of JSON's types."""

    @abstractmethod
    def draw(self, image: Image.Image, result: Any, palette: Sequence[Colour]) -> Image.Image:
        """A result drawn on its image, RGB. ``palette`` has an RGB colour, 0..255, for each class."""

    def published_config(self, weights: str, options: dict[str, Any]) -> tuple[Any, list[str]]:
        """The config that predicts with published weights of whole models, and the names of their classes.

        Args:
            weights: a name of the weights table, a URL, or a file.
            options: changes of the config.

        Raises:
            UserError: the task has no such weights, or these hold no whole model.
        """
        raise UserError(f"{weights}: no whole models of {self.name} are published; give a config and a checkpoint")

    def published_models(self) -> Mapping[str, Any]:
        """The ``ziggurat.engine.published.PublishedModel`` of each config with published weights, by its name."""
        return {}

    def shown_name(self, name: str) -> str:
        """What predictions call a class of this name."""
        return name

    def palette(self, cfg: Any, num_classes: int) -> list[Colour]:
        """An RGB colour, 0..255, for each class: the test set's palette if it is complete, else generated colours."""
        dataset = (cfg.get("test_dataloader") or {}).get("dataset") or {}
        given = (dataset.get("metainfo") or {}).get("palette") or []
        return given if len(given) >= num_classes else make_palette(num_classes)

    def counted_size(self, cfg: Any) -> tuple[int, int]:
        """Height and width, in pixels, of the image at which papers count a config's model."""
        return 224, 224

    def counted_pass(self, model: nn.Module, images: Tensor) -> Any:
        """The pass of a model that papers count: a test without what follows the last head, on the meta device.

        Args:
            model: the model, on the meta device.
            images: (1, 3, H, W) on the meta device.
        """
        return model(images)

    def exported(self, model: nn.Module) -> nn.Module:
        """The module that an export of a model records: normalised images (B, C, H, W) in, one or several tensors out.

        If the module has an attribute ``inputs`` of ``("image", "shown")``, it takes height and width of the image at
        the top left of its input, too: a tensor (2,). Samples of the task then have an ``img_shape``.

        Raises:
            UserError: the model, or all whole models of the task, are not exported.
        """
        raise UserError(f"whole models of {self.name} are not exported; allowed: their backbone, by --backbone")

    def check_runtime(self, cfg: Any) -> None:
        """Raises UserError for a completed config whose predictions need more than passes of the exported model."""

    def takes_padding(self, cfg: Any) -> bool:
        """Whether an exported model gives right results for an image that does not fill its input.

        ``cfg.model`` is that of the model itself, without a wrapper.
        """
        return True

    def samples_of_export(self, cfg: Any, outputs: list[Tensor], data_samples: list[Any] | None) -> list[Any]:
        """What the model's ``test_step`` would return for a batch, from the outputs of its exported module.

        Args:
            cfg: the completed config. ``cfg.model`` is that of the model itself, without a wrapper.
            outputs: those of :meth:`exported` for the batch.
            data_samples: of each image, as the model's data preprocessor gives them; None if it gives none.

        Raises:
            UserError: whole models of the task are not exported.
        """
        raise UserError(f"whole models of {self.name} are not exported; allowed: without a runtime")

    def export_outputs(self, model: nn.Module) -> tuple[str, ...]:
        """The names of the outputs of :meth:`exported`: ``scores``, or ``boxes, scores, labels``, maybe ``masks``."""
        return ("scores",)

    def findings(
        self, cfg: Any, split: str, thorough: bool = False, decode: bool = False, seen: list[Any] | None = None
    ) -> Iterator[Finding]:
        """What is odd in the data sets of a split, see ``ziggurat.engine.formats.Format.findings``.

        Of unknown formats only a list of images is looked at. Data sets that are in ``seen`` are left out, and others
        are added to it.
        """
        seen = [] if seen is None else seen
        for dataset in datasets_of(cfg, split):
            yield from caught("image-outside", check_list, dataset)
        for dataset, found in formats_of(cfg, split, self.scope_of(cfg)):
            if dataset not in seen and type(found).findings is Format.findings:
                yield from caught("format", found.check, dataset, split)
            elif dataset not in seen:
                yield from found.findings(dataset, split, thorough, decode)
            seen.append(dataset)

    def check_data(self, cfg: Any, splits: Sequence[str] = SPLITS) -> None:
        """Looks at the files of the splits before a run is built, and says warnings.

        Raises:
            UserError: a finding makes the data unusable.
        """
        seen: list[Any] = []
        for split in splits:
            follow(self.findings(cfg, split, seen=seen))

    def build_model(self, cfg: Any) -> nn.Module:
        """The config's model. The weights of ``pretrained`` are not loaded."""
        with self.scoped(cfg):
            return MODELS.build(cfg.model)

    def build_for_prediction(self, cfg: Any) -> nn.Module:
        """The config's model as for :meth:`build_model`, whose results need not keep more than predictions have."""
        return self.build_model(cfg)

    def build_dataset(self, cfg: Any, split: str) -> Any:
        """The data set of a split, with its truth."""
        init_default_scope(self.scope_of(cfg))
        dataset = copy.deepcopy(cfg[f"{split}_dataloader"].dataset)
        return DATASETS.build(self.with_truth(dataset, cfg))

    def scoped(self, cfg: Any) -> AbstractContextManager[None]:
        """A block in which names of a config are looked up in its scope. The scope outside stays as it was."""
        return DefaultScope.overwrite_default_scope(self.scope_of(cfg))

    def scope_of(self, cfg: Any) -> str:
        """The scope of the config's registries: its ``default_scope``, else the task's scope."""
        return cfg.get("default_scope") or self.scope

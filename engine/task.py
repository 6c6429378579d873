"""The protocol of a task.

Tools, runs and ``Predictor`` use a task only through the class ``Task``. Each task's package has an instance, ``TASK``.
"""

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from mmengine.registry import DATASETS, MODELS, DefaultScope, init_default_scope
from PIL import Image
from torch import Tensor, nn

from backbones.checks import MIN_SIZE
from backbones.errors import UserError
from engine.draw import Colour, make_palette
from engine.findings import Finding, caught, follow
from engine.formats import Format, formats_of
from engine.inside import check_list
from engine.reading import follow_reading
from engine.results import Result
from engine.splits import SPLITS, datasets_of
from engine.task_views import TaskViews
from engine.tiles import Tiles
from engine.tta import use_tta


class Task(TaskViews):
    """One task. A config belongs to the task whose package its ``custom_imports`` names.

    Attributes:
        name: the package's name, e.g. ``"detection"``.
        scope: the mm library whose registries hold its models, data sets and transforms, e.g. ``"mmdet"``.
        result_type: the class of its results, e.g. ``Instances``.
        main_metrics: the metrics that the console shows for an epoch, the most important first.
        images_hook: the type of the hook that shows a test's best and worst images; None for a task without one.
        losses: the values of the option ``loss``, each with the losses' configs, or with the text that stands for them.
        repeated: the type of the wrapper of data sets that repeats images of rare classes.
    """

    name: str
    scope: str
    result_type: type[Result]
    main_metrics: tuple[str, ...] = ()
    images_hook: str | None = None
    losses: Mapping[str, Any] = MappingProxyType({})
    repeated: str = "RepeatedImages"

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

    def use_tta(self, cfg: Any, views: str | None = None) -> None:
        """Changes a config in place to test with augmentation.

        Args:
            cfg: a completed config.
            views: which views of an image, for tasks that have a choice. None takes the task's own.

        Raises:
            UserError: there is no such choice, or the config does not say how.
        """
        if views is not None:
            raise UserError(f"--tta {views}: {self.name} has no choice of views; allowed: --tta alone")
        use_tta(cfg)

    def use_tiles(self, cfg: Any, tiles: Tiles) -> None:
        """Changes a config in place to test on tiles of an image. With :meth:`use_tta`, this comes second.

        Raises:
            UserError: the task or the config's model cannot do this.
        """
        raise UserError(f"tiles are for detection and segmentation, and this is {self.name}")

    def predict_on_tiles(self, cfg: Any, tiles: Tiles) -> None:
        """Like :meth:`use_tiles`, for predictions, which need not be those of a test that others have published.

        Raises:
            UserError: as for :meth:`use_tiles`.
        """
        self.use_tiles(cfg, tiles)

    def use_test_options(
        self,
        cfg: Any,
        names: Sequence[str],
        report: str | None = None,
        results: str | None = None,
        images: str | None = None,
        real_labels: str | bool | None = None,
    ) -> None:
        """Changes a config in place by the options of ``tools/test.py`` that not every task has.

        Args:
            cfg: a completed config.
            names: the names of the model's classes, by index.
            report: the folder to write a report to.
            results: the folder to write the predictions to, in the form of the task's data sets.
            images: the folder of the images to test on, in class folders.
            real_labels: a file of further labels for the images, or True for the labels that are known without one.

        Raises:
            UserError: the task does not have such an option, or the images or labels do not fit the classes.
        """
        if images or real_labels:
            raise UserError(f"--images and --real-labels are for classification, and this is {self.name}")
        self.use_test_files(cfg, report, results)

    def use_test_files(self, cfg: Any, report: str | None, results: str | None) -> None:
        """The part of :meth:`use_test_options` for tasks that test on their own data alone.

        Raises:
            UserError: the config's metrics write no such files.
        """
        raise NotImplementedError

    def describe_testing(self, cfg: Any, model: nn.Module) -> str:
        """How a test prepares its images, in one line; "" if there is nothing to say beyond the config.

        Args:
            cfg: the completed config.
            model: the model, wrapped or not, with its weights.
        """
        return ""

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
        """The ``engine.published.PublishedModel`` of each config whose weights are published, by the config's name."""
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

    def training_size(self, cfg: Any, asked: tuple[int, int] | None) -> tuple[int, int]:
        """Height and width, in pixels, of random images to train a config's model on.

        Args:
            cfg: the config.
            asked: the size that the user asks for, or None for that of the training's crops.

        Raises:
            UserError: the config does not train on images of the size asked for.
        """
        return asked or self.counted_size(cfg)

    def counted_pass(self, model: nn.Module, images: Tensor) -> Any:
        """The pass of a model that papers count: a test without what follows the last head, on the meta device.

        Args:
            model: the model, on the meta device.
            images: (1, 3, H, W) on the meta device.
        """
        return model(images)

    def random_data(self, cfg: Any) -> dict[str, Any]:
        """The config of a data set of random samples for a config's model, but for ``number``, ``height``, ``width``.

        Raises:
            UserError: the task has no such data set.
        """
        raise UserError(f"{self.name} has no random data; allowed: a measurement on the config's own data")

    def findings(
        self, cfg: Any, split: str, thorough: bool = False, decode: bool = False, seen: list[Any] | None = None
    ) -> Iterator[Finding]:
        """What is odd in the data sets of a split, see ``engine.formats.Format.findings``.

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

    def settle_training(self, cfg: Any, earlier: Mapping[str, Any] | None) -> None:
        """Before a training is built: writes what follows from the training data into the config, in place.

        Args:
            cfg: the completed config.
            earlier: the config of the run that is resumed, whose values stay; None for a new run.

        Raises:
            UserError: the data do not tell.
        """

    def follow_checkpoint(self, cfg: Any, own: Mapping[str, Any] | None, source: str) -> None:
        """Gives a config what belongs to a checkpoint's weights, in place, and says so.

        Args:
            cfg: the completed config.
            own: the result of ``read_own_meta`` for the checkpoint. None, as for others' files, changes nothing.
            source: the checkpoint's name in notes.
        """
        follow_reading(cfg, own, self.scope_of(cfg), source)

    def loss_places(self, cfg: Any, name: str) -> Iterable[tuple[str, Any, str]]:
        """Where the option ``loss`` writes: the name of each place, the config that owns the loss, and its key there.

        Args:
            cfg: the config.
            name: a key of ``losses``, for messages.

        Raises:
            UserError: a head of the model cannot take another loss. The message names the head, and the loss it has.
        """
        return ()

    def check_training(self, cfg: Any, model: nn.Module, loader: Any) -> None:
        """Checks what belongs together in a training, once its parts are built.

        Args:
            cfg: the completed config. Its ``load_from`` and ``resume`` say what the run starts from.
            model: the model, without a wrapper.
            loader: the ``DataLoader`` of the training set.

        Raises:
            UserError: the parts do not fit.
        """

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


def check_size(name: str, height: int, width: int) -> None:
    """Raises UserError for an image with a side below 32 pixels. ``name`` is for the message."""
    if min(height, width) < MIN_SIZE:
        raise UserError(f"{name} is {width}x{height} pixels; allowed: {MIN_SIZE}x{MIN_SIZE} and larger")

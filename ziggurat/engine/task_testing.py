"""How a task tests: with augmentation, on tiles, and with options of its own."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from backbones.errors import UserError
from ziggurat.engine.tiles import Tiles
from ziggurat.engine.tta import use_tta


class TaskTesting:
    """The part of :class:`ziggurat.engine.task.Task` that belongs to tests. Its ``name`` is the task's."""

    name: str

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

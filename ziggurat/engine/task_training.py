"""How a task trains: what follows from its data, and which losses and images an option may take in their place."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from torch import nn

from backbones.errors import UserError
from ziggurat.engine.reading import follow_reading


class TaskTraining:
    """The part of :class:`ziggurat.engine.task.Task` that belongs to trainings. It uses other methods of that class.

    Attributes:
        name: the task's.
        losses: the values of the option ``loss``, each with the losses' configs, or with the text that stands for them.
        repeated: the type of the wrapper of data sets that repeats images of rare classes.
    """

    name: str
    losses: Mapping[str, Any] = MappingProxyType({})
    repeated: str = "RepeatedImages"

    def training_size(self, cfg: Any, asked: tuple[int, int] | None) -> tuple[int, int]:
        """Height and width, in pixels, of random images to train a config's model on.

        Args:
            cfg: the config.
            asked: the size that the user asks for, or None for that of the training's crops.

        Raises:
            UserError: the config does not train on images of the size asked for.
        """
        return asked or self.counted_size(cfg)

    def random_data(self, cfg: Any) -> dict[str, Any]:
        """The config of a data set of random samples for a config's model, but for ``number``, ``height``, ``width``.

        Raises:
            UserError: the task has no such data set.
        """
        raise UserError(f"{self.name} has no random data; allowed: a measurement on the config's own data")

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

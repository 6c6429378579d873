"""The result of a distillation: the student alone, as a file that every task loads."""

from pathlib import Path
from typing import Any

from mmengine.hooks import Hook

from backbones.weights import save_safely
from ziggurat.engine.saving import copied

NAME = "backbone.safetensors"
PREFIX = "backbone."


class BackboneFileHook(Hook):
    """Writes the backbone of each checkpoint to ``backbone.safetensors`` beside it, in place of the one before.

    The file carries the arch, mean and std. It has no task, so it belongs to none.
    """

    priority = "VERY_LOW"  # after hooks that change the checkpoint, such as EMAHook

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        own = checkpoint["meta"]["ziggurat"] | dict(task=None, classes=None, config=None)
        state = checkpoint["state_dict"]
        tensors = {name.removeprefix(PREFIX): state[name] for name in state if name.startswith(PREFIX)}
        self.content = copied({**tensors, "meta": {"ziggurat": own}})

    def after_save_checkpoint(self, runner: Any, path: Path) -> None:
        save_safely(self.content, Path(path).parent / NAME)

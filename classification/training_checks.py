"""What belongs together in a training: mixing needs pairs of images, and an option for the head needs weights."""

from typing import Any

from torch import nn

from backbones.errors import UserError
from ziggurat.engine.console import say_note


def check_pairs(model: nn.Module, loader: Any) -> None:
    """Raises UserError if a model that mixes images will get a batch of an odd number of images.

    Args:
        model: a classifier. Without ``mixup`` nothing is checked.
        loader: the ``DataLoader`` of the training set.
    """
    batches = loader.batch_sampler
    if not getattr(model, "mixup", None) or getattr(batches, "batch_size", None) is None:
        return
    if batches.batch_size % 2:
        raise UserError(
            f"train_dataloader.batch_size is {batches.batch_size}; allowed with model.mixup: even numbers, since "
            "images are mixed in pairs"
        )
    last = len(batches.sampler) % batches.batch_size
    if last % 2 and not batches.drop_last:
        raise UserError(
            f"train_dataloader.drop_last is False, and the last batch has {last} images; allowed with model.mixup: "
            "drop_last=True, or a last batch of an even number, since images are mixed in pairs"
        )


def check_start(cfg: Any, model: nn.Module) -> None:
    """Looks for an option about the head of weights in a run that starts from none.

    Args:
        cfg: the run's config.
        model: a classifier.

    Raises:
        UserError: ``class_map`` is given, and no weights are. An unneeded ``reset_head`` gets a note.
    """
    if cfg.get("load_from") or model.backbone.pretrained is not None:
        return
    ways = "model.backbone.pretrained=WEIGHTS or load_from=FILE"
    if model.class_map is not None:
        raise UserError(
            f"model.class_map={model.class_map!r} picks rows of a head in weights, and the run loads no weights; "
            f"add {ways}"
        )
    if model.reset_head:
        say_note(f"model.reset_head changes nothing, since the run loads no weights; for weights add {ways}")

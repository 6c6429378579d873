"""The mean and std by which a model normalises its images: reading them, and taking over those of a checkpoint."""

from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import ImgDataPreprocessor
from torch import nn

from ziggurat.engine.console import say_note
from ziggurat.engine.wrappers import unwrap

SAME = 1e-4  # of a range of 1; configs round their numbers


def statistics_of(model: nn.Module, cfg: Config) -> tuple[list[float] | None, list[float] | None]:
    """A model's normalisation: mean and std of RGB in 0..1; None if its preprocessor does not normalise."""
    preprocessor = getattr(model, "data_preprocessor", None)
    if not hasattr(preprocessor, "mean"):
        return None, None
    found = []
    for buffer in (preprocessor.mean, preprocessor.std):
        numbers = [round(value / 255, 6) for value in buffer.flatten().tolist()]
        found.append(numbers if is_rgb(preprocessor, cfg) else numbers[::-1])
    return found[0], found[1]


def follow_statistics(model: nn.Module, cfg: Config, own: dict[str, Any] | None, source: str) -> None:
    """Gives a model the normalisation of the run that wrote its checkpoint. If the config differs, a note says so.

    Args:
        model: the model, wrapped or not, with the checkpoint's weights.
        cfg: the config that the model was built from.
        own: the result of ``read_own_meta`` for the checkpoint. None, as for other trainers' files, changes nothing.
        source: the checkpoint's name in the note.
    """
    model = unwrap(model)
    configured = statistics_of(model, cfg)
    trained = (own["mean"], own["std"]) if own else (None, None)
    if None in configured or None in trained or [len(part) for part in configured] != [len(part) for part in trained]:
        return
    if torch.allclose(torch.tensor(configured), torch.tensor(trained), rtol=0, atol=SAME):
        return
    preprocessor = model.data_preprocessor
    for name, numbers in zip(("mean", "std"), trained, strict=True):
        ordered = numbers if is_rgb(preprocessor, cfg) else numbers[::-1]
        buffer = getattr(preprocessor, name)
        buffer.copy_(torch.tensor(ordered, dtype=torch.float64).mul(255).view_as(buffer))
    mean, std = (", ".join(f"{value:.4g}" for value in numbers) for numbers in trained)
    say_note(f"images are normalised as in the run that wrote {source}, by mean ({mean}) and std ({std}) of 0..1")


def is_rgb(preprocessor: nn.Module, cfg: Config) -> bool:
    """Whether the preprocessor's numbers are in the order RGB, or in the file's order where they are not three.

    mm's transforms read files as BGR. Only ``bgr_to_rgb`` changes the order.
    """
    if preprocessor.mean.numel() != 3:
        return True
    model = cfg.model
    while "module" in model:  # in test-time augmentation
        model = model["module"]
    given = model.get("data_preprocessor") or cfg.get("data_preprocessor") or {}
    return bool(given.get("bgr_to_rgb")) or not isinstance(preprocessor, ImgDataPreprocessor)

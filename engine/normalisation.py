"""The mean and std by which a model normalises its images: reading them, and following those of a checkpoint."""

from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import ImgDataPreprocessor
from torch import nn

from engine.console import say_note
from engine.wrappers import unwrap

SAME = 1e-4  # of a range of 1; configs round their numbers


def statistics_of(model: nn.Module, cfg: Config) -> tuple[list[float] | None, list[float] | None]:
    """Mean and std of RGB in 0..1 by which a model normalises images; None where its preprocessor does not."""
    preprocessor = getattr(model, "data_preprocessor", None)
    if not hasattr(preprocessor, "mean"):
        return None, None
    found = []
    for buffer in (preprocessor.mean, preprocessor.std):
        numbers = [round(value / 255, 6) for value in buffer.flatten().tolist()]
        found.append(numbers if is_rgb(preprocessor, cfg) else numbers[::-1])
    return found[0], found[1]


def follow_statistics(model: nn.Module, cfg: Config, own: dict[str, Any] | None, source: str) -> None:
    """Makes a model normalise as the run that wrote its checkpoint did; a note says so where the config differs.

    Args:
        model: the model, wrapped or not, with the checkpoint's weights.
        cfg: what the model was built from.
        own: what the checkpoint says of itself, from ``read_own_meta``. None, as for others' files, changes nothing.
        source: how to call the checkpoint.
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
    """Whether the numbers are in the order RGB. mm's transforms read files as BGR, and only ``bgr_to_rgb`` turns it."""
    given = cfg.model.get("data_preprocessor") or cfg.get("data_preprocessor") or {}
    return bool(given.get("bgr_to_rgb")) or not isinstance(preprocessor, ImgDataPreprocessor)

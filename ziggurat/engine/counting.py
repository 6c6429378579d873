"""Parameters and multiply-adds of a model, counted on the meta device, where nothing is computed."""

from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ziggurat.engine.tasks import task_for


class Size(NamedTuple):
    """The size of a model.

    Attributes:
        params: number of parameters.
        macs: multiply-adds of one image in convolutions and matrix products.
        outputs: what the model gave, on the meta device.
    """

    params: int
    macs: int
    outputs: Any


def count(model: nn.Module, forward: Any, images: torch.Tensor) -> Size:
    """The size of a model on the meta device.

    Args:
        model: the model.
        forward: a function of ``images`` that runs the model.
        images: (1, C, H, W) on the meta device.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        outputs = forward(images)
    return Size(sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2, outputs)


def count_config(cfg: Config, height: int | None = None, width: int | None = None) -> tuple[Size, tuple[int, int]]:
    """The size of a config's model, and the height and width of the image.

    Args:
        cfg: a completed config of any task.
        height, width: of the image in pixels. None: the size at which papers count such a model.

    Raises:
        UserError: the task cannot run such a model without an image.
    """
    task = task_for(cfg)
    if height is None or width is None:
        height, width = task.counted_size(cfg)
    with torch.device("meta"):
        model = task.build_model(cfg).eval()
        images = torch.empty(1, 3, height, width)
        with task.scoped(cfg):
            return count(model, lambda images: task.counted_pass(model, images), images), (height, width)

"""Weights of three channels for a network of another number of input channels.

From three channels on, the first three take the weights of red, green and blue. Every other channel takes the mean of
the three. Then all are multiplied by 3 / N, so that an image with equal channels gives what it gave in RGB, and the
norms behind the first layer meet the values that they were trained with. For one channel this is the sum of the three.
timm's ``adapt_input_conv`` has the same sum and the same factor. Its further channels repeat red, green and blue, where
these take the mean, since they are neither.
"""

import torch
from torch import Tensor

from backbones.places import place_of

RGB = 3


def can_widen(name: str, stored: Tensor, target: Tensor) -> bool:
    """Whether a stored tensor is a network's first convolution for RGB, and the network has other channels.

    Args:
        name: the tensor's name in the network.
        stored: its values, (C, 3, h, w) of such a convolution.
        target: the network's own tensor, (C, N, h, w).
    """
    theirs, ours = tuple(stored.shape), tuple(target.shape)
    is_first = place_of(name).part == "stem" and len(theirs) == len(ours) == 4 and stored.is_floating_point()
    return is_first and theirs[1] == RGB != ours[1] and theirs[:1] + theirs[2:] == ours[:1] + ours[2:]


def widened(stored: Tensor, channels: int) -> Tensor:
    """A convolution's weights (C, 3, h, w) as (C, channels, h, w), by the rule of this module."""
    values = stored if stored.dtype == torch.float64 else stored.float()
    wide = values.mean(1, keepdim=True).repeat(1, channels, 1, 1)
    if channels >= RGB:
        wide[:, :RGB] = values
    return (wide * (RGB / channels)).to(stored.dtype)


def rule_in_words(channels: int) -> str:
    """What :func:`widened` did, for messages."""
    if channels < RGB:
        return f"3 channels to {channels}: the mean of the three, times 3/{channels}"
    return f"3 channels to {channels}: the first three as they are, the mean in the others, all times 3/{channels}"

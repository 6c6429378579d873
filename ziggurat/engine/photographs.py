"""Real photographs, on which exports are compared: those that come with scikit-image."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

NAMES = ("chelsea", "astronaut", "coffee", "rocket")  # a cat, a woman, a cup, a rocket; all in colour


def photographs() -> tuple[list[Image.Image], str]:
    """Pictures, and what they are. Without scikit-image they are noise."""
    try:
        from skimage import data

        return [Image.fromarray(getattr(data, name)()) for name in NAMES], "photographs of scikit-image"
    except ImportError:
        random = np.random.default_rng(0)
        coarse = [random.integers(0, 256, (12, 12, 3), np.uint8) for _ in NAMES]
        return [Image.fromarray(pixels).resize((384, 384)) for pixels in coarse], "noise, without scikit-image"


def batch_of(
    pictures: Sequence[Image.Image], shape: Sequence[int], mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    """Pictures as a normalised batch (B, C, H, W) in float32. More channels than three repeat those of RGB."""
    batch, channels, height, width = shape
    images = []
    for i in range(batch):
        pixels = np.asarray(pictures[i % len(pictures)].convert("RGB").resize((width, height)))
        image = torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)
        images.append(image[torch.arange(channels) % 3])
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (mean, std))
    return (torch.stack(images) - mean) / std

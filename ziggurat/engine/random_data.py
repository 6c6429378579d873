"""Data sets of random images, for measurements that need no files."""

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset


class RandomSamples(Dataset):
    """Random samples, made once. Each task has a subclass; ``Task.random_data`` gives its config.

    Args:
        classes: number of all classes.
        number: of samples.
        height, width: of the images in pixels.
    """

    def __init__(self, classes: int, number: int, height: int, width: int):
        self.classes = classes
        self.samples = [self.sample(np.random.default_rng(i), height, width) for i in range(number)]

    @abstractmethod
    def sample(self, rng: np.random.Generator, height: int, width: int) -> dict[str, Any]:
        """An item as the task's training set gives it, after its pipeline."""

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.samples[index]


def random_image(rng: np.random.Generator, height: int, width: int) -> Tensor:
    """uint8 (3, H, W)."""
    return torch.from_numpy(rng.integers(0, 256, (3, height, width), dtype=np.uint8))

"""The number types the operators compute in."""

import numpy as np
import torch
from torch import Tensor


def wide(tensor: Tensor) -> Tensor:
    """`tensor`, in float32 if it is a half type."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def as_float(value: float) -> float:
    """`value` rounded to float32: mmcv passes thresholds and scales as C floats, and comparisons notice."""
    return float(np.float32(value))

"""The number types the operators compute in."""

import numpy as np
import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """`tensor`, converted to float32 if it is float16 or bfloat16."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def as_float(value: float) -> float:
    """`value` rounded to float32. mmcv passes thresholds and scales as C floats, which can decide a comparison."""
    return float(np.float32(value))

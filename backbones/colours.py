"""Maps as colours."""

import numpy as np
import torch
from torch import Tensor


def pca_colours(feature_map: Tensor) -> np.ndarray:
    """A (C, H, W) map as a (H, W, 3) uint8 image: the first three principal components over its positions.

    The 1st to the 99th percentile of each component becomes 0 to 255.
    """
    channels, height, width = feature_map.shape
    points = feature_map.reshape(channels, -1).T.double().cpu()
    points = points - points.mean(0)
    _, vectors = torch.linalg.eigh(points.T @ points)
    scores = points @ vectors[:, -3:].flip(1)
    # An eigenvector's sign is arbitrary. The larger tail is made positive, so equal maps get equal colours.
    scores = scores * torch.where(scores.amax(0) < -scores.amin(0), -1.0, 1.0)
    low, high = torch.quantile(scores, 0.01, dim=0), torch.quantile(scores, 0.99, dim=0)
    image = ((scores - low) / (high - low).clamp_min(1e-12)).clamp(0, 1) * 255
    return image.round().to(torch.uint8).reshape(height, width, -1).numpy()

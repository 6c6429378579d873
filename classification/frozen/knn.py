"""The weighted vote of the nearest training images, by cosine similarity.

Source: Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", 2018, section 3.4, as the
evaluation of DINO does it (facebookresearch/dino, eval_knn.py): temperature 0.07, k = 10, 20, 100 and 200.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.errors import UserError
from classification.frozen.cache import Split

TEMPERATURE = 0.07
KS = (10, 20, 100, 200)


def knn(
    train: Split,
    val: Split,
    num_classes: int,
    ks: Sequence[int] = KS,
    temperature: float = TEMPERATURE,
    device: str | torch.device = "cpu",
    chunks: tuple[int, int] = (1024, 16384),
) -> list[dict[str, Any]]:
    """The accuracy of the vote on ``val``.

    Each of the k nearest training images votes for its class with weight exp(similarity / temperature). A class without
    a vote is never among the best five. DINO counts such classes by their order.

    Args:
        train, val: the features.
        num_classes: number of classes.
        ks: numbers of neighbours.
        temperature: above 0.
        device: where to compute.
        chunks: how many images of val and of train are compared at a time. They bound the memory.

    Returns:
        For each k ``dict(k=..., top1=..., top5=...)``, in percent.

    Raises:
        UserError: see :func:`check_ks`.
    """
    check_ks(ks, len(train.labels))
    train_labels = torch.from_numpy(np.array(train.labels)).to(device)
    hits = torch.zeros(len(ks), 2, dtype=torch.int64)
    for begin in range(0, len(val.labels), chunks[0]):
        rows = slice(begin, begin + chunks[0])
        similarities, neighbours = nearest(unit_rows(val.features[rows], device), train.features, max(ks), chunks[1])
        classes = train_labels[neighbours]
        truth = torch.from_numpy(np.array(val.labels[rows])).to(device)
        for number, k in enumerate(ks):
            found = votes(similarities[:, :k], classes[:, :k], num_classes, temperature)
            weights, best = found.topk(min(5, num_classes), dim=1)
            right = (best == truth[:, None]) & (weights > 0)
            hits[number] += torch.stack([right[:, 0].sum(), right.sum()]).cpu()
    percent = (100 * hits.double() / len(val.labels)).tolist()
    return [{"k": k, "top1": top1, "top5": top5} for k, (top1, top5) in zip(ks, percent, strict=True)]


def check_ks(ks: Sequence[int], images: int, option: str = "k") -> None:
    """Raises UserError for a number of neighbours that is below 1 or above the number of training images."""
    for k in ks:
        if not 1 <= k <= images:
            raise UserError(f"{option} is {k} with {images} training images; allowed: 1 to {images}")


def unit_rows(rows: np.ndarray, device: str | torch.device) -> Tensor:
    """(N, width) as float32 rows of length 1 on the device. A row of zeros stays."""
    return F.normalize(torch.from_numpy(np.array(rows)).to(device, torch.float32), dim=1)


def nearest(queries: Tensor, features: np.ndarray, k: int, chunk: int) -> tuple[Tensor, Tensor]:
    """The k most similar rows of ``features`` for each query: cosine similarities and row numbers, (B, k) each.

    Args:
        queries: (B, width), rows of length 1.
        features: (N, width), N >= k.
        k: number of neighbours.
        chunk: how many rows of ``features`` are compared at a time.
    """
    best = torch.empty(len(queries), 0, device=queries.device)
    numbers = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    for begin in range(0, len(features), chunk):
        similarities = queries @ unit_rows(features[begin : begin + chunk], queries.device).T
        found, order = similarities.topk(min(k, similarities.shape[1]), dim=1)
        best, numbers = torch.cat([best, found], dim=1), torch.cat([numbers, order + begin], dim=1)
        best, order = best.topk(min(k, best.shape[1]), dim=1)
        numbers = numbers.gather(1, order)
    return best, numbers


def votes(similarities: Tensor, classes: Tensor, num_classes: int, temperature: float) -> Tensor:
    """The share of each class in the weighted vote: (B, num_classes), rows with sum 1.

    Args:
        similarities: of the neighbours, (B, k).
        classes: of the neighbours, (B, k).
        num_classes: number of classes.
        temperature: above 0.
    """
    weights = (similarities.double() / temperature).softmax(dim=1)
    return torch.zeros(len(classes), num_classes, dtype=weights.dtype, device=weights.device).scatter_add_(
        1, classes, weights
    )

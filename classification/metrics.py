"""Top-k accuracy."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric


class Accuracy(BaseMetric):
    """``top1`` and ``top5`` in percent. Every image counts once, for any number of processes.

    Args:
        topk: the numbers k. With k above the number of classes every image counts as right.
    """

    def __init__(self, topk: Sequence[int] = (1, 5), collect_device: str = "cpu", prefix: str | None = None):
        super().__init__(collect_device, prefix)
        self.topk = tuple(topk)

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Counts the predictions of a ``Classifier``: dicts with ``scores`` (num_classes,) and ``label``."""
        scores = torch.stack([sample["scores"] for sample in data_samples]).cpu()
        labels = torch.tensor([sample["label"] for sample in data_samples])
        order = scores.topk(min(max(self.topk), scores.shape[1]), dim=1).indices
        hits = order == labels[:, None]
        # One entry per image: mmengine counts entries to drop the copies that pad the last batches.
        self.results += [tuple(bool(hit[:k].any()) for k in self.topk) for hit in hits]

    def compute_metrics(self, results: list[tuple[bool, ...]]) -> dict[str, float]:
        percent = torch.tensor(results, dtype=torch.float64).mean(dim=0) * 100
        return {f"top{k}": value for k, value in zip(self.topk, percent.tolist(), strict=True)}

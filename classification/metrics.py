"""Top-k accuracy and calibration error, of any number of processes. Every image counts once."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from backbones.checks import check_int
from backbones.errors import UserError
from classification.data.samples import UNSCORED

TINY = 1e-30  # the least probability that is left for the classes of a subset


class ScoredImages(BaseMetric):
    """What the metrics have in common: the scores of the classes that may be predicted, and which of them are right.

    An image that could not be read has the label ``UNSCORED``, and does not count.

    Where the data set has ``label_sets``, a label is the number of a set, and every class of the set is right.

    Args:
        subset: indices of the classes that may be predicted, as for ImageNet-R and ImageNet-A. None allows all.
    """

    def __init__(self, subset: Sequence[int] | None = None, collect_device: str = "cpu", prefix: str | None = None):
        super().__init__(collect_device, prefix)
        self.subset = None if subset is None else torch.tensor(list(subset))

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Adds one entry an image: mmengine counts entries, to drop the copies that pad the last batches."""
        readable = [sample for sample in data_samples if sample["label"] != UNSCORED]
        entries = iter(self.entries(readable) if readable else [])
        self.results += [None if sample["label"] == UNSCORED else next(entries) for sample in data_samples]

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        scored = [entry for entry in results if entry is not None]
        if not scored:
            raise UserError(f"none of {len(results)} images can be read, so nothing is scored")
        return self.figures(scored, len(results) - len(scored))

    def entries(self, data_samples: Sequence[dict[str, Any]]) -> list[Any]:
        """What :meth:`figures` needs of each image. The images are one or more, and readable."""
        raise NotImplementedError

    def figures(self, results: list[Any], unreadable: int) -> dict[str, float]:
        """The metrics.

        Args:
            results: the entries of all images, one or more.
            unreadable: the number of images that could not be read, and have no entry.
        """
        raise NotImplementedError

    def scored(self, data_samples: Sequence[dict[str, Any]]) -> tuple[Tensor, Tensor]:
        """Scores and truth of a classifier's predictions, dicts with ``scores`` (num_classes,) and ``label``.

        Returns:
            Scores (B, num_classes) with sum 1, and bool (B, num_classes): whether a class is right for an image.
        """
        scores = torch.stack([sample["scores"] for sample in data_samples]).cpu()
        if self.subset is not None:
            allowed = torch.zeros_like(scores)
            allowed[:, self.subset] = scores[:, self.subset]
            scores = allowed / allowed.sum(dim=1, keepdim=True).clamp_min(TINY)
        sets = (self.dataset_meta or {}).get("label_sets")
        truth = torch.zeros_like(scores, dtype=torch.bool)
        for row, sample in zip(truth, data_samples, strict=True):
            row[list(sets[sample["label"]]) if sets else sample["label"]] = True
        return scores, truth


class Accuracy(ScoredImages):
    """``top1`` and ``top5`` in percent, and ``unreadable``, the number of images left out, unless it is 0.

    Args:
        topk: the numbers k. A k above 1 is left out where every answer would be right, with k classes or fewer.
        subset: as for :class:`ScoredImages`.
    """

    def __init__(self, topk: Sequence[int] = (1, 5), **kwargs: Any):
        super().__init__(**kwargs)
        self.topk = tuple(check_int("val_evaluator.topk", k, 1, None) for k in topk)

    def entries(self, data_samples: Sequence[dict[str, Any]]) -> list[dict[int, bool]]:
        scores, truth = self.scored(data_samples)
        classes = scores.shape[1] if self.subset is None else len(self.subset)
        order = scores.topk(min(max(self.topk), scores.shape[1]), dim=1).indices
        hits = truth.gather(1, order)
        return [{k: bool(hit[:k].any()) for k in self.topk if k == 1 or k < classes} for hit in hits]

    def figures(self, results: list[dict[int, bool]], unreadable: int) -> dict[str, float]:
        found = {f"top{k}": 100 * (sum(hits[k] for hits in results) / len(results)) for k in results[0]}
        return found | ({"unreadable": unreadable} if unreadable else {})


class CalibrationError(ScoredImages):
    """``ece``, the expected calibration error in percent: how far the best score is from the share of right images.

    The best scores fall into bins of equal width. A bin's error is the difference of its mean score and its accuracy.
    The errors are averaged, each weighted by the bin's number of images (Guo et al., 2017, arXiv 1706.04599).

    Args:
        bins: number of bins of (0, 1].
        subset: as for :class:`ScoredImages`.
    """

    def __init__(self, bins: int = 15, **kwargs: Any):
        super().__init__(**kwargs)
        self.bins = bins

    def entries(self, data_samples: Sequence[dict[str, Any]]) -> list[tuple[float, bool]]:
        scores, truth = self.scored(data_samples)
        confidence, best = scores.max(dim=1)
        right = truth.gather(1, best[:, None])[:, 0]
        return list(zip(confidence.tolist(), right.tolist(), strict=True))

    def figures(self, results: list[tuple[float, bool]], unreadable: int) -> dict[str, float]:
        confidence, right = torch.tensor(results, dtype=torch.float64).unbind(1)
        return {"ece": calibration_error(reliability(confidence, right, self.bins))}


def reliability(confidence: Tensor, right: Tensor, bins: int) -> list[dict[str, float]]:
    """The bins of a reliability diagram that hold images.

    Args:
        confidence: (N,) best scores, in 0..1.
        right: (N,) whether the best class is right, as 0 or 1.
        bins: number of bins of equal width. A bin includes its upper end.

    Returns:
        For each bin ``above`` and ``up_to``, its ends; ``images``, their number; ``confidence``, the mean of the best
        scores; ``accuracy``, the share of right images.
    """
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    number = torch.bucketize(confidence.double().contiguous(), edges[1:-1])
    rows = []
    for i in number.unique().tolist():
        inside = number == i
        rows.append(
            dict(
                above=edges[i].item(),
                up_to=edges[i + 1].item(),
                images=int(inside.sum()),
                confidence=confidence[inside].double().mean().item(),
                accuracy=right[inside].double().mean().item(),
            )
        )
    return rows


def calibration_error(bins: list[dict[str, float]]) -> float:
    """The expected calibration error in percent, of the bins of :func:`reliability`."""
    error = sum(row["images"] * abs(row["confidence"] - row["accuracy"]) for row in bins)
    return 100 * error / sum(row["images"] for row in bins)

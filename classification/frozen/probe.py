"""Linear classifiers on frozen features, one for each point of a grid of rates and weight decays, trained at once.

Source: the linear evaluation of DINOv2 (facebookresearch/dinov2, dinov2/eval/linear.py): SGD with momentum 0.9, a
cosine to 0 over the steps, first weights of normal 0.01, the same 13 rates for 256 images of a batch. Features are
standardised, which DINOv2 leaves out: features of other networks and stages differ in scale. The linear probe of MAE
does the same with a BatchNorm (He et al., "Masked Autoencoders Are Scalable Vision Learners", 2022, appendix A.1).
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.errors import UserError
from classification.frozen.cache import Split

RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1)
MOMENTUM = 0.9
PER = 256  # a rate of the grid is for a batch of so many images
HELD_OUT = 0.1  # part of each class of train, by which the best point of the grid is chosen
ROWS = 4096  # rows that are read at a time where no gradient is needed


class Scale(NamedTuple):
    """What standardises features: (x - mean) / std for each of the ``width`` numbers of a vector."""

    mean: Tensor
    std: Tensor

    def rows(self, features: np.ndarray, where: Any) -> Tensor:
        """Rows of ``features`` as standardised float32 on the device of ``mean``."""
        return (torch.from_numpy(np.array(features[where])).to(self.mean.device, torch.float32) - self.mean) / self.std


def linear_probe(
    train: Split,
    val: Split,
    num_classes: int,
    rates: Sequence[float] = RATES,
    decays: Sequence[float] = (0.0,),
    epochs: int = 100,
    batch_size: int = 1024,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> dict[str, Any]:
    """Trains a linear classifier for each rate and weight decay, and chooses one without looking at ``val``.

    A tenth of each class of ``train`` is held out. The classifier with the best top-1 there is the best one; of equals
    the first.

    Args:
        train, val: the features.
        num_classes: number of classes.
        rates: the first rates, per 256 images of a batch.
        decays: the weight decays, of weights alone.
        epochs: how often the kept part of ``train`` is seen.
        batch_size: images per step, drawn without replacement in each epoch.
        seed: of the held-out part, the first weights and the order of the images.
        device: where to compute.

    Returns:
        ``grid``, for each point ``dict(rate, weight_decay, held_out_top1, top1, top5)`` in percent, with None for a
        classifier whose weights are not finite, and for ``top5`` of five classes or fewer; ``best``, the chosen one of
        them; and ``images``, the numbers of training and held-out images.

    Raises:
        UserError: nothing can be held out, or every classifier diverged.
    """
    kept, held_out = hold_out(np.asarray(train.labels), seed)
    scale = scale_of(train.features, kept, device)
    grid = [(rate, decay) for rate in rates for decay in decays]
    weight, bias = train_grid(train, kept, num_classes, grid, epochs, batch_size, seed, scale)
    points: list[dict[str, Any]] = [{"rate": rate, "weight_decay": decay} for rate, decay in grid]
    for names, split, numbers in (
        (("held_out_top1", None), train, held_out),
        (("top1", "top5"), val, np.arange(len(val.labels))),
    ):
        for point, row in zip(points, accuracies(split, numbers, weight, bias, scale), strict=True):
            point |= {name: value for name, value in zip(names, row, strict=True) if name}
    finite = [point for point in points if point["held_out_top1"] is not None]
    if not finite:
        raise UserError(f"every classifier diverged at the rates {', '.join(map(str, rates))}; allowed: lower ones")
    best = max(finite, key=lambda point: point["held_out_top1"])
    return {"best": best, "grid": points, "images": {"train": len(kept), "held_out": len(held_out)}}


def check_grid(rates: Sequence[float], decays: Sequence[float]) -> None:
    """Raises UserError for a rate that is not above 0, or a weight decay below 0."""
    for rate in rates:
        if not 0 < rate < math.inf:
            raise UserError(f"a rate is {rate}; allowed: numbers above 0")
    for decay in decays:
        if not 0 <= decay < math.inf:
            raise UserError(f"a weight decay is {decay}; allowed: numbers from 0 up")


def hold_out(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the images that are kept and of those held out, ascending.

    A tenth of each class is held out, rounded up. One image of each class is always kept.

    Raises:
        UserError: no class has two images.
    """
    order, chosen = np.random.default_rng(seed), []
    for index in np.unique(labels):
        members = np.flatnonzero(labels == index)
        count = min(math.ceil(HELD_OUT * len(members)), len(members) - 1)
        chosen.append(order.choice(members, count, replace=False))
    held_out = np.sort(np.concatenate(chosen))
    if not len(held_out):
        raise UserError("train has one image of each class, of which none can be held out; allowed: two or more")
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def scale_of(features: np.ndarray, numbers: np.ndarray, device: str | torch.device) -> Scale:
    """Mean and standard deviation over the given rows. A number that never changes gets the deviation 1."""
    mean, count = np.zeros(features.shape[1]), 0
    squares = np.zeros(features.shape[1])
    for begin in range(0, len(numbers), ROWS):  # Chan's sums: no difference of large numbers
        rows = np.array(features[numbers[begin : begin + ROWS]], dtype=np.float64)
        step = rows.mean(axis=0) - mean
        squares += ((rows - rows.mean(axis=0)) ** 2).sum(axis=0) + step**2 * count * len(rows) / (count + len(rows))
        count += len(rows)
        mean += step * len(rows) / count
    std = np.sqrt(squares / count)
    std[std < 1e-6 * (np.abs(mean) + 1e-6)] = 1
    mean, std = (torch.tensor(values, dtype=torch.float32, device=device) for values in (mean, std))
    return Scale(mean, std)


def train_grid(
    train: Split,
    numbers: np.ndarray,
    num_classes: int,
    grid: Sequence[tuple[float, float]],
    epochs: int,
    batch_size: int,
    seed: int,
    scale: Scale,
) -> tuple[Tensor, Tensor]:
    """Trains one linear layer for each (rate, weight decay) of the grid G, all on the same batches.

    Returns:
        weights (G, width, num_classes) and biases (G, 1, num_classes).
    """
    device, width = scale.mean.device, len(scale.mean)
    random = torch.Generator().manual_seed(seed)
    first = 0.01 * torch.randn(width, num_classes, generator=random)
    weight = first.to(device).repeat(len(grid), 1, 1).requires_grad_()
    bias = torch.zeros(len(grid), 1, num_classes, device=device, requires_grad=True)
    rates, decays = (torch.tensor(values, device=device).view(-1, 1, 1) for values in zip(*grid, strict=True))
    rates = rates * min(batch_size, len(numbers)) / PER
    momenta = [torch.zeros_like(weight), torch.zeros_like(bias)]
    steps = epochs * math.ceil(len(numbers) / batch_size)
    for step, batch in enumerate(batches(numbers, epochs, batch_size, random)):
        x, labels = scale.rows(train.features, batch), torch.from_numpy(np.array(train.labels[batch])).to(device)
        logits = torch.matmul(x, weight) + bias
        loss = F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(grid)), reduction="sum") / len(batch)
        gradients = torch.autograd.grad(loss, (weight, bias))  # of a sum over the grid: no point feels another
        factor = 0.5 * (1 + math.cos(math.pi * step / steps))
        with torch.no_grad():
            for value, gradient, momentum, decay in zip((weight, bias), gradients, momenta, (decays, 0), strict=True):
                momentum.mul_(MOMENTUM).add_(gradient + decay * value)
                value -= factor * rates * momentum
    return weight.detach(), bias.detach()


def batches(numbers: np.ndarray, epochs: int, batch_size: int, random: torch.Generator) -> Iterator[np.ndarray]:
    """The images of each step. Within a step they ascend, since a file is read faster in order."""
    for _ in range(epochs):
        order = numbers[torch.randperm(len(numbers), generator=random).numpy()]
        yield from (np.sort(order[i : i + batch_size]) for i in range(0, len(order), batch_size))


@torch.no_grad()
def accuracies(
    split: Split, numbers: np.ndarray, weight: Tensor, bias: Tensor, scale: Scale
) -> list[tuple[float | None, float | None]]:
    """Top-1 and top-5 in percent of each classifier; None for weights that are not finite, and top-5 of 5 classes."""
    finite = (torch.isfinite(weight).all(dim=(1, 2)) & torch.isfinite(bias).all(dim=(1, 2))).tolist()
    rows = max(1, ROWS // len(weight))
    hits = torch.zeros(len(weight), 2, dtype=torch.int64)
    for begin in range(0, len(numbers), rows):
        part = numbers[begin : begin + rows]
        logits = torch.matmul(scale.rows(split.features, part), weight) + bias
        truth = torch.from_numpy(np.array(split.labels[part])).to(logits.device)
        right = logits.topk(min(5, logits.shape[2]), dim=2).indices == truth[:, None]
        hits += torch.stack([right[:, :, 0].sum(dim=1), right.sum(dim=(1, 2))], dim=1).cpu()
    percent = (100 * hits.double() / len(numbers)).tolist()
    tells = weight.shape[-1] > 5  # of five classes or fewer, every answer is among the best five
    return [
        (top1 if fine else None, top5 if fine and tells else None)
        for (top1, top5), fine in zip(percent, finite, strict=True)
    ]

"""Focal losses on N samples of C classes.

target (N,) holds class indices. C means background: no class is positive. The softmax loss ignores -1.
weight is empty or (C,). It scales a sample by the weight of its target, or by 1 if the target is no class.
Semantics: mmcv/ops/csrc/common/cuda/sigmoid_focal_loss_cuda_kernel.cuh and softmax_focal_loss_cuda_kernel.cuh.
"""

import torch
from torch import Tensor

from ziggurat.mmcv_ops.precision import as_float, at_least_float32

FLT_MIN = torch.finfo(torch.float32).tiny  # arguments of logarithms are at least this, in every type


def sigmoid_focal_loss_forward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    output: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Fill `output` (N, C) with the loss of the logits `input` (N, C)."""
    if output.numel() == 0:
        return
    p, positive, gamma, alpha = _sigmoid(input, target, gamma, alpha)
    loss_positive = -alpha * (1 - p) ** gamma * _log(p)
    loss_negative = -(1 - alpha) * p**gamma * _log(1 - p)
    output.copy_(torch.where(positive, loss_positive, loss_negative) * _sample_weight(weight, target)[:, None])


def sigmoid_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Fill `grad_input` (N, C) with the derivative of each loss by its logit."""
    if grad_input.numel() == 0:
        return
    p, positive, gamma, alpha = _sigmoid(input, target, gamma, alpha)
    grad_positive = -alpha * (1 - p) ** gamma * (1 - p - gamma * p * _log(p))
    grad_negative = -(1 - alpha) * p**gamma * (gamma * (1 - p) * _log(1 - p) - p)
    grad_input.copy_(torch.where(positive, grad_positive, grad_negative) * _sample_weight(weight, target)[:, None])


def softmax_focal_loss_forward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    output: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Fill `output` (N,) with the loss of the probabilities `input` (N, C), the result of a softmax."""
    if output.numel() == 0:
        return
    p, known = _target_probability(input, target)
    loss = -as_float(alpha) * (1 - p) ** as_float(gamma) * _log(p)
    output.copy_((loss * _sample_weight(weight, target)).where(known, 0.0))


def softmax_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Fill `grad_input` (N, C) with the derivative by the logits, and `buff` (N,) with the factor of each sample."""
    if grad_input.numel() == 0:
        return
    p, known = _target_probability(input, target)
    gamma, alpha = as_float(gamma), as_float(alpha)
    factor = alpha * (-((1 - p) ** gamma) + gamma * (1 - p) ** (gamma - 1) * p * _log(p))
    factor = (factor * _sample_weight(weight, target)).where(known, 0.0)
    buff.copy_(factor)
    flag = target[:, None] == torch.arange(input.shape[1], device=input.device)
    grad_input.copy_((factor[:, None] * (flag.to(factor.dtype) - at_least_float32(input))).where(known[:, None], 0.0))


def _sigmoid(input: Tensor, target: Tensor, gamma: float, alpha: float) -> tuple[Tensor, Tensor, float, float]:
    _check_target(target, input.shape[1])
    positive = target[:, None] == torch.arange(input.shape[1], device=input.device)
    return 1 / (1 + torch.exp(-at_least_float32(input))), positive, as_float(gamma), as_float(alpha)


def _target_probability(softmax: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Probability (N,) of each target, and a mask (N,) of the targets that are classes."""
    _check_target(target, softmax.shape[1])
    known = (target >= 0) & (target < softmax.shape[1])
    return at_least_float32(softmax).gather(1, target.where(known, 0)[:, None])[:, 0], known


def _check_target(target: Tensor, num_classes: int) -> None:
    largest = int(target.max())
    if largest > num_classes:
        raise RuntimeError(f"focal loss: target {largest} is out of range, {num_classes} classes allow up to it")


def _sample_weight(weight: Tensor, target: Tensor) -> Tensor:
    if weight.numel() == 0:
        return torch.ones((), device=target.device, dtype=at_least_float32(weight).dtype).expand(len(target))
    known = (target >= 0) & (target < len(weight))
    return at_least_float32(weight)[target.where(known, 0)].where(known, 1.0)


def _log(p: Tensor) -> Tensor:
    return p.clamp(min=FLT_MIN).log()

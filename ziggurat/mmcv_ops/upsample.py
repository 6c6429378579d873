"""CARAFE upsampling (arXiv:1905.02188): each output pixel is a weighted sum of the K x K pixels around its source.

Shapes:

    features   (B, C, H, W)
    masks      (B, groups * K * K, H * scale, W * scale)
    output     (B, C, H * scale, W * scale)

Semantics: mmcv/ops/csrc/common/cuda/carafe_cuda_kernel.cuh and carafe_naive_cuda_kernel.cuh, which agree.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ziggurat.mmcv_ops.precision import at_least_float32


def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Fill `output`. Fill `rfeatures` with the features as (B, H, W, C), for the backward."""
    rfeatures.resize_(features.permute(0, 2, 3, 1).shape).copy_(features.permute(0, 2, 3, 1))
    carafe_naive_forward(features, masks, output, kernel_size, group_size, scale_factor)


def carafe_backward(
    top_grad: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rtop_grad: Tensor,
    rbottom_grad_hs: Tensor,
    rbottom_grad: Tensor,
    rmask_grad: Tensor,
    bottom_grad: Tensor,
    mask_grad: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Fill `bottom_grad` and `mask_grad`, the gradients of features and masks. The other tensors are scratch space."""
    if top_grad.numel() == 0:
        return
    features = rfeatures.permute(0, 3, 1, 2)
    grad_features, grad_masks = _gradients(top_grad, features, masks, kernel_size, group_size, scale_factor)
    bottom_grad.copy_(grad_features)
    mask_grad.copy_(grad_masks)


def carafe_naive_forward(
    features: Tensor,
    masks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Fill `output`."""
    if output.numel() == 0:
        return
    patches = _patches(at_least_float32(features), kernel_size, group_size)
    taps = _taps(at_least_float32(masks), kernel_size, group_size, scale_factor)
    output.copy_(torch.einsum("bgckhw,bgkhywx->bgchywx", patches, taps).reshape(output.shape))


def carafe_naive_backward(
    top_grad: Tensor,
    features: Tensor,
    masks: Tensor,
    bottom_grad: Tensor,
    mask_grad: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Add the gradients of features and masks to `bottom_grad` and `mask_grad`."""
    if top_grad.numel() == 0:
        return
    grad_features, grad_masks = _gradients(top_grad, features, masks, kernel_size, group_size, scale_factor)
    bottom_grad += grad_features
    mask_grad += grad_masks


def _gradients(grad, features, masks, kernel_size: int, groups: int, scale: int) -> tuple[Tensor, Tensor]:
    batch, channels, height, width = features.shape
    patches = _patches(at_least_float32(features), kernel_size, groups)
    taps = _taps(at_least_float32(masks), kernel_size, groups, scale)
    grad = at_least_float32(grad).reshape(batch, groups, channels // groups, height, scale, width, scale)
    grad_taps = torch.einsum("bgckhw,bgchywx->bgkhywx", patches, grad)
    grad_patches = torch.einsum("bgkhywx,bgchywx->bgckhw", taps, grad)
    grad_features = F.fold(
        grad_patches.reshape(batch, -1, height * width),
        (height, width),
        kernel_size,
        padding=kernel_size // 2,
    )
    return grad_features, grad_taps.reshape(masks.shape)


def _patches(features: Tensor, kernel_size: int, groups: int) -> Tensor:
    """(B, groups, C / groups, K * K, H, W): the neighbourhood of every pixel, with zeros outside the map."""
    batch, channels, height, width = features.shape
    patches = F.unfold(features, kernel_size, padding=kernel_size // 2)
    return patches.view(batch, groups, channels // groups, kernel_size**2, height, width)


def _taps(masks: Tensor, kernel_size: int, groups: int, scale: int) -> Tensor:
    """(B, groups, K * K, H, scale, W, scale): the weights, by source pixel and by place within that pixel."""
    batch, _, height, width = masks.shape
    return masks.reshape(batch, groups, kernel_size**2, height // scale, scale, width // scale, scale)

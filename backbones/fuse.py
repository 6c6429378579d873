"""The inference form: batch norms folded into the convolutions beside them."""

import torch
from torch import Tensor, nn


def fuse_children(module: nn.Module) -> None:
    """Folds every descendant with a method for it: ``fuse()`` changes the module, ``fused()`` returns a replacement."""
    for name, child in module.named_children():
        if hasattr(child, "fused"):
            setattr(module, name, child.fused())
        elif hasattr(child, "fuse"):
            child.fuse()
        else:
            fuse_children(child)


def norm_affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The (C,) scale and shift that a BatchNorm applies in eval mode."""
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return scale, norm.bias - norm.running_mean * scale


@torch.no_grad()
def fold_norm_after(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Folds a BatchNorm that follows a convolution into that convolution."""
    scale, shift = norm_affine(norm)
    conv.weight.mul_(scale[:, None, None, None])
    conv.bias.copy_(conv.bias * scale + shift)


@torch.no_grad()
def fold_norm_before(norm: nn.BatchNorm2d, conv: nn.Conv2d) -> None:
    """Folds a BatchNorm that feeds an unpadded 1x1 convolution into that convolution."""
    scale, shift = norm_affine(norm)
    conv.bias.add_(conv.weight[:, :, 0, 0] @ shift)
    conv.weight.mul_(scale[None, :, None, None])

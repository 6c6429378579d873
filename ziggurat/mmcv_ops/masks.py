"""Convolution at chosen pixels, and the attention masks of PSANet.

Semantics: mmcv/ops/csrc/common/cuda/masked_conv2d_cuda_kernel.cuh and mmcv/ops/csrc/pytorch/cpu/psamask.cpp.
"""

import torch
from torch import Tensor

COLLECT = 0  # psa_type; 1 distributes


def masked_im2col_forward(
    im: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    col: Tensor,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Fill `col` (C * kh * kw, M) with the patches of `im` (1, C, H, W) around M pixels, with zeros outside."""
    if col.numel() == 0:
        return
    channels, height, width = im.shape[1:]
    taps_y = torch.arange(kernel_h, device=im.device)[:, None, None] - pad_h
    taps_x = torch.arange(kernel_w, device=im.device)[None, :, None] - pad_w
    y, x = mask_h_idx + taps_y, mask_w_idx + taps_x  # (kh, 1, M), (1, kw, M)
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    patches = im[0][:, y.clamp(0, height - 1), x.clamp(0, width - 1)]  # (C, kh, kw, M)
    col.copy_(patches.where(inside, 0.0).view(channels * kernel_h * kernel_w, -1))


def masked_col2im_forward(
    col: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    im: Tensor,
    height: int,
    width: int,
    channels: int,
) -> None:
    """Write `col` (C, M) into `im` (1, C, H, W) at M pixels. Other pixels stay as they are."""
    if col.numel():
        im[0][:, mask_h_idx, mask_w_idx] = col


def psamask_forward(
    input: Tensor,
    output: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Fill `output` (B, H * W, H, W) from masks `input` (B, h_mask * w_mask, H, W) centred on their own pixel.

    The weight that the mask of pixel i gives to pixel j is output[:, j, i] for collect, output[:, i, j] for distribute.
    Entries that no mask reaches stay as they are.
    """
    if output.numel() == 0 or input.numel() == 0:
        return
    pixels = h_feature * w_feature
    other, inside = _reached(input.device, h_feature, w_feature, h_mask, w_mask, half_h_mask, half_w_mask)
    tap, own = inside.nonzero(as_tuple=True)
    other, masks = other[tap, own], input.reshape(num_, h_mask * w_mask, pixels)
    target = output.view(num_, pixels, pixels)
    row, column = (other, own) if psa_type == COLLECT else (own, other)
    target[:, row, column] = masks[:, tap, own]


def psamask_backward(
    grad_output: Tensor,
    grad_input: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Fill `grad_input` (B, h_mask * w_mask, H, W) where a mask reaches a pixel of the map."""
    if grad_output.numel() == 0 or grad_input.numel() == 0:
        return
    pixels = h_feature * w_feature
    other, inside = _reached(
        grad_input.device,
        h_feature,
        w_feature,
        h_mask,
        w_mask,
        half_h_mask,
        half_w_mask,
    )
    tap, own = inside.nonzero(as_tuple=True)
    other, source = other[tap, own], grad_output.reshape(num_, pixels, pixels)
    row, column = (other, own) if psa_type == COLLECT else (own, other)
    grad_input.view(num_, h_mask * w_mask, pixels)[:, tap, own] = source[:, row, column]


def _reached(
    device, height: int, width: int, h_mask: int, w_mask: int, half_h: int, half_w: int
) -> tuple[Tensor, Tensor]:
    """Two (taps, H * W), for each tap of the mask around each pixel: the flat pixel there, and whether it is inside."""

    def axis(size: int, taps: int, half: int) -> Tensor:
        return torch.arange(taps, device=device)[:, None] - half + torch.arange(size, device=device)

    y = axis(height, h_mask, half_h)[:, None, :, None]
    x = axis(width, w_mask, half_w)[None, :, None, :]
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return (y * width + x).reshape(h_mask * w_mask, -1), inside.reshape(h_mask * w_mask, -1)

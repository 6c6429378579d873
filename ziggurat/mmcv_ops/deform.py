"""Deformable convolutions, plain and modulated, on torchvision's operator.

Shapes:

    input    (B, C, H, W)
    weight   (O, C / groups, kh, kw)
    offset   (B, 2 * deform groups * kh * kw, OH, OW): y, then x, of each tap
    mask     (B, deform groups * kh * kw, OH, OW)
    output   (B, O, OH, OW)

The modulated convolution also takes larger offset and mask maps, as DyHead gives them. As in the compiled operators,
the first values of an image's map are then read as if they lay in a map of the output's size.

Semantics: mmcv/ops/csrc/pytorch/deform_conv.cpp, modulated_deform_conv.cpp and their CPU kernels.
"""

import weakref

import torch
import torchvision  # noqa: F401  registers torch.ops.torchvision
from torch import Tensor

from ziggurat.mmcv_ops.precision import at_least_float32


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Fill `output`. `columns`, `ones` and `im2col_step` are not used."""
    if output.numel():
        geometry = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
        output.copy_(_convolve(input, weight, offset, None, None, geometry))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradInput: Tensor,
    gradOffset: Tensor,
    weight: Tensor,
    columns: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Add to `gradInput`, fill `gradOffset`."""
    if gradOutput.numel() == 0:
        return
    geometry = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    grad_input, grad_weight, grad_offset, _, _ = _gradients(gradOutput, input, weight, offset, None, None, geometry)
    gradInput += grad_input
    gradOffset.copy_(grad_offset)
    # torchvision computes the weight's gradient here, too. mmcv asks for it in a second call with the same tensors.
    columns.weight_grad = (_references(input, offset, gradOutput), grad_weight)


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradWeight: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    scale: float,
    im2col_step: int,
) -> None:
    """Add `scale` times the gradient to `gradWeight`."""
    if gradOutput.numel() == 0:
        return
    made_for, grad_weight = vars(columns).pop("weight_grad", (None, None))
    if made_for != _references(input, offset, gradOutput):
        geometry = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
        weight = torch.zeros_like(gradWeight)  # a weight's gradient does not depend on the weight
        grad_weight = _gradients(gradOutput, input, weight, offset, None, None, geometry)[1]
    gradWeight.add_(grad_weight.to(gradWeight.dtype), alpha=scale)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Fill `output`. `ones` and `columns` are not used."""
    if output.numel():
        geometry = (
            stride_h,
            stride_w,
            pad_h,
            pad_w,
            dilation_h,
            dilation_w,
            group,
            deformable_group,
        )
        output.copy_(_convolve(input, weight, offset, mask, bias if with_bias else None, geometry))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Add to `grad_input`, `grad_weight` and, `with_bias`, `grad_bias`; fill `grad_offset` and `grad_mask`."""
    if grad_output.numel() == 0:
        return
    geometry = (
        stride_h,
        stride_w,
        pad_h,
        pad_w,
        dilation_h,
        dilation_w,
        group,
        deformable_group,
    )
    grads = _gradients(grad_output, input, weight, offset, mask, bias if with_bias else None, geometry)
    grad_input += grads[0]
    grad_weight += grads[1]
    grad_offset.copy_(grads[2])
    grad_mask.copy_(grads[3])
    if with_bias:
        grad_bias += grads[4]


def _convolve(input, weight, offset, mask, bias, geometry) -> Tensor:
    operands = _operands(input, weight, offset, mask, bias, geometry)
    return torch.ops.torchvision.deform_conv2d(*operands, *geometry, mask is not None)


def _gradients(grad, input, weight, offset, mask, bias, geometry) -> tuple[Tensor, ...]:
    """Gradients of input, weight, offset, mask, bias."""
    operands = _operands(input, weight, offset, mask, bias, geometry)
    grads = torch.ops.torchvision._deform_conv2d_backward(
        at_least_float32(grad), *operands, *geometry, mask is not None
    )
    grad_input, grad_weight, grad_offset, grad_mask, grad_bias = grads
    kernel = weight.shape[2:]
    grad_offset = grad_offset.masked_fill(_on_outer_edge(operands[2], kernel, geometry), 0)
    if mask is not None:
        grad_offset, grad_mask = _in_layout_of(offset, grad_offset), _in_layout_of(mask, grad_mask)
    return grad_input, grad_weight, grad_offset, grad_mask, grad_bias


def _operands(input, weight, offset, mask, bias, geometry) -> list[Tensor]:
    """The operands of torchvision's operators, in their order. An absent mask or bias becomes a tensor of zeros."""
    input = at_least_float32(input)
    if mask is None:
        mask = input.new_zeros(len(input), 1)
    else:
        size = _output_size(input, weight, geometry)
        taps = geometry[-1] * weight.shape[2] * weight.shape[3]
        offset, mask = _in_layout_of_output(offset, 2 * taps, size), _in_layout_of_output(mask, taps, size)
    if bias is None:
        bias = input.new_zeros(weight.shape[0])
    return [input, *(tensor.to(input.dtype) for tensor in (weight, offset, mask, bias))]


def _output_size(input: Tensor, weight: Tensor, geometry) -> tuple[int, int]:
    strides, pads, dilations = geometry[:2], geometry[2:4], geometry[4:6]
    return tuple(
        (side + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
        for side, pad, dilation, kernel, stride in zip(
            input.shape[2:], pads, dilations, weight.shape[2:], strides, strict=True
        )
    )


def _in_layout_of_output(map: Tensor, channels: int, size: tuple[int, int]) -> Tensor:
    """The first values of each image's map (B, C, H, W) as a map (B, channels, *size). A smaller map stays as it is."""
    count = channels * size[0] * size[1]
    if map.shape[1] != channels or map.shape[2:] == size or map[0].numel() < count:
        return map  # torchvision refuses a map that does not fit
    return map.reshape(len(map), -1)[:, :count].reshape(len(map), channels, *size)


def _in_layout_of(map: Tensor, grad: Tensor) -> Tensor:
    """The gradient of a map from that of :func:`_in_layout_of_output`; 0 for values that were not read."""
    if map.shape == grad.shape:
        return grad
    whole = grad.new_zeros(len(map), map[0].numel())
    whole[:, : grad[0].numel()] = grad.flatten(1)
    return whole.view(map.shape)


def _on_outer_edge(offset: Tensor, kernel, geometry) -> Tensor:
    """A mask (B, 2 * deform groups * kh * kw, OH, OW) of the taps at exactly y = -1 or x = -1, equal for y and x.

    mmcv counts such a tap as outside, with no gradient. torchvision takes the slope towards the image. With padding 1
    and offsets initialised to zero, all taps on the border lie there.
    """
    stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, _, deform_groups = geometry
    batch, _, out_h, out_w = offset.shape
    kernel_h, kernel_w = kernel

    def steps(count: int, step: int, start: int = 0) -> Tensor:
        return torch.arange(count, device=offset.device, dtype=offset.dtype) * step + start

    offset = offset.view(batch, deform_groups, kernel_h, kernel_w, 2, out_h, out_w)
    base_y = steps(out_h, stride_h, -pad_h)[:, None] + steps(kernel_h, dilation_h)[:, None, None, None]
    base_x = steps(out_w, stride_w, -pad_w) + steps(kernel_w, dilation_w)[:, None, None]
    outer = (base_y + offset[:, :, :, :, 0] == -1) | (base_x + offset[:, :, :, :, 1] == -1)
    return outer[:, :, :, :, None].expand_as(offset).reshape(batch, -1, out_h, out_w)


def _references(*tensors: Tensor) -> tuple:
    """A key that is equal for the same, unchanged tensor objects, and does not keep them alive."""
    return tuple((id(tensor), tensor._version, weakref.ref(tensor)) for tensor in tensors)

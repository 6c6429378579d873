"""The operators of mmcv's extension, in PyTorch. They and their arguments have the names in mmcv's pybind.cpp."""

import functools

import torch

from ziggurat.mmcv_ops import attention, boxes, deform, deform_roi, lines, losses, masks, roi, sync_bn, upsample


def _operator(function):
    """Run `function` as a compiled operator runs: without autograd, and without autocast."""

    @functools.wraps(function)
    def run(*args, **kwargs):
        first = next(value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor))
        with torch.no_grad(), torch.autocast(first.device.type, enabled=False):
            return function(*args, **kwargs)

    return run


def get_compiler_version() -> str:
    return "none (mmcv_ops)"


def get_compiling_cuda_version() -> str:
    return "not available"


OPERATORS = {
    function.__name__: _operator(function)
    for function in (
        boxes.nms,
        boxes.softnms,
        boxes.nms_match,
        boxes.bbox_overlaps,
        lines.line_nms_forward,
        roi.roi_align_forward,
        roi.roi_align_backward,
        roi.roi_pool_forward,
        roi.roi_pool_backward,
        deform_roi.deform_roi_pool_forward,
        deform_roi.deform_roi_pool_backward,
        deform.deform_conv_forward,
        deform.deform_conv_backward_input,
        deform.deform_conv_backward_parameters,
        deform.modulated_deform_conv_forward,
        deform.modulated_deform_conv_backward,
        sync_bn.sync_bn_forward_mean,
        sync_bn.sync_bn_forward_var,
        sync_bn.sync_bn_forward_output,
        sync_bn.sync_bn_backward_param,
        sync_bn.sync_bn_backward_data,
        losses.sigmoid_focal_loss_forward,
        losses.sigmoid_focal_loss_backward,
        losses.softmax_focal_loss_forward,
        losses.softmax_focal_loss_backward,
        attention.ms_deform_attn_forward,
        attention.ms_deform_attn_backward,
        upsample.carafe_forward,
        upsample.carafe_backward,
        upsample.carafe_naive_forward,
        upsample.carafe_naive_backward,
        masks.masked_im2col_forward,
        masks.masked_col2im_forward,
        masks.psamask_forward,
        masks.psamask_backward,
    )
}
OPERATORS["get_compiler_version"] = get_compiler_version
OPERATORS["get_compiling_cuda_version"] = get_compiling_cuda_version

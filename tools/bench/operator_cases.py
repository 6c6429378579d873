"""A call of every operator that mmcv_ops backs, gradients included, to compare devices with each other."""

from collections.abc import Callable

import torch
from torch import Tensor

from ziggurat import mmcv_ops

mmcv_ops.install()

from mmcv import ops  # noqa: E402
from mmcv.ops.carafe import ext_module as extension  # noqa: E402
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction  # noqa: E402

Outputs = list[Tensor]


def with_gradients(out: Tensor, *leaves: Tensor) -> Outputs:
    """The output, and the gradients of its weighted sum by ``leaves``."""
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape).to(out.device)
    return [out, *torch.autograd.grad((out * weights).sum(), leaves)]


class Inputs:
    """The same random tensors on every device: made on the CPU from one seed, in the order of the calls."""

    def __init__(self, device: str):
        self.device, self.source = device, torch.Generator().manual_seed(0)

    def randn(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.source).to(self.device).requires_grad_()

    def boxes(self, count: int, side: float = 60) -> Tensor:
        corner, extent = torch.rand(2, count, 2, generator=self.source)
        return torch.cat([corner * side, corner * side + 4 + extent * side / 2], 1).to(self.device)

    def scores(self, count: int) -> Tensor:
        return torch.rand(count, generator=self.source).to(self.device)

    def rois(self) -> Tensor:
        index = torch.tensor([0.0, 1, 1, 0], device=self.device)[:, None]
        return torch.cat([index, self.boxes(4)], 1)


def nms(given: Inputs) -> Outputs:
    return [*ops.nms(given.boxes(200), given.scores(200), 0.5)]


def soft_nms(given: Inputs) -> Outputs:
    return [*ops.soft_nms(given.boxes(60), given.scores(60), 0.3)]


def nms_match(given: Inputs) -> Outputs:
    groups = ops.nms_match(torch.cat([given.boxes(60), given.scores(60)[:, None]], 1), 0.3)
    return [torch.as_tensor(group) for group in groups]


def bbox_overlaps(given: Inputs) -> Outputs:
    return [ops.bbox_overlaps(given.boxes(30), given.boxes(20), mode="iou")]


def roi_align(given: Inputs) -> Outputs:
    maps = given.randn(2, 5, 20, 24)
    return with_gradients(ops.roi_align(maps, given.rois(), 7, 0.25, 0, "avg", True), maps)


def roi_pool(given: Inputs) -> Outputs:
    maps = given.randn(2, 5, 20, 24)
    return with_gradients(ops.roi_pool(maps, given.rois(), (5, 4), 0.25), maps)


def deform_roi_pool(given: Inputs) -> Outputs:
    maps, offsets = given.randn(2, 5, 20, 24), given.randn(4, 2, 3, 2)
    return with_gradients(ops.deform_roi_pool(maps, given.rois(), offsets, (3, 2), 0.25, 0, 0.1), maps, offsets)


def line_nms(given: Inputs) -> Outputs:
    """Lines of 77 numbers: the third is where a line starts, the fifth how many rows it has."""
    lines = given.randn(40, 77).detach()
    lines[:, 2], lines[:, 4] = given.scores(40) / 2, given.scores(40) * 36 + 1
    return [*extension.line_nms_forward(lines, given.scores(40), 0.8, 10)]


def sync_bn(given: Inputs) -> Outputs:
    """By the operators' names, since mmcv's layer exchanges sums between processes."""
    x, grad, weight, bias = (given.randn(*shape).detach() for shape in ((2, 3, 10), (2, 3, 10), (3,), (3,)))
    mean, var, std, running_mean, running_var, grad_weight, grad_bias = (torch.ones_like(weight) for _ in range(7))
    norm, output, grad_x = (torch.empty_like(x) for _ in range(3))
    extension.sync_bn_forward_mean(x, mean)
    extension.sync_bn_forward_var(x, mean, var)
    filled = (norm, std, output)
    running = (running_mean, running_var)
    extension.sync_bn_forward_output(
        x, mean, var, weight, bias, *running, *filled, eps=1e-5, momentum=0.1, group_size=1
    )
    extension.sync_bn_backward_param(grad, norm, grad_weight, grad_bias)
    extension.sync_bn_backward_data(grad, weight, grad_weight, grad_bias, norm, std, grad_x)
    return [output, *running, grad_weight, grad_bias, grad_x]


def deform_conv(given: Inputs) -> Outputs:
    x, offsets, weight = given.randn(2, 4, 9, 8), given.randn(2, 18, 9, 8), given.randn(6, 4, 3, 3)
    return with_gradients(ops.deform_conv2d(x, offsets, weight, 1, 1), x, offsets, weight)


def modulated_deform_conv(given: Inputs) -> Outputs:
    x, offsets, mask = given.randn(2, 4, 9, 8), given.randn(2, 18, 9, 8), given.randn(2, 9, 9, 8)
    weight, bias = given.randn(6, 4, 3, 3), given.randn(6)
    out = ops.modulated_deform_conv2d(x, offsets, mask, weight, bias, 1, 1, 1, 1, 1)
    return with_gradients(out, x, offsets, mask, weight, bias)


def focal_losses(given: Inputs) -> Outputs:
    found = []
    for function in (ops.sigmoid_focal_loss, ops.softmax_focal_loss):
        logits, targets = given.randn(7, 4), torch.tensor([0, 1, 2, 3, 1, 3, 0], device=given.device)
        found += with_gradients(function(logits, targets, 2.0, 0.25, None, "sum"), logits)
    return found


def deformable_attention(given: Inputs) -> Outputs:
    shapes = torch.tensor([[6, 5], [3, 2]], device=given.device)
    starts = torch.tensor([0, 30], device=given.device)
    value, weights = given.randn(2, 36, 2, 6), given.randn(2, 5, 2, 2, 3)
    places = given.randn(2, 5, 2, 2, 3, 2)
    out = MultiScaleDeformableAttnFunction.apply(value, shapes, starts, places.sigmoid(), weights, 64)
    return with_gradients(out, value, places, weights)


def carafe(given: Inputs) -> Outputs:
    features, masks = given.randn(1, 4, 3, 4), given.randn(1, 18, 6, 8)
    return with_gradients(ops.carafe(features, masks, 3, 2, 2), features, masks)


def carafe_naive(given: Inputs) -> Outputs:
    """The backward is called by its name, since mmcv's wrapper runs it on CUDA alone."""
    features, masks = given.randn(1, 4, 3, 4), given.randn(1, 18, 6, 8)
    out = ops.carafe_naive(features, masks, 3, 2, 2).detach()
    gradients = torch.zeros_like(features), torch.zeros_like(masks)
    backward = extension.carafe_naive_backward
    backward(torch.ones_like(out), features, masks, *gradients, kernel_size=3, group_size=2, scale_factor=2)
    return [out, *gradients]


def masked_convolution(given: Inputs) -> Outputs:
    layer = ops.MaskedConv2d(3, 4, 3, padding=1).to(given.device).requires_grad_(False)
    layer.weight.copy_(given.randn(4, 3, 3, 3))
    layer.bias.copy_(given.randn(4))
    mask = (given.randn(1, 5, 6) > 0).float()
    return [layer(given.randn(1, 3, 5, 6).detach(), mask)]


def psamask(given: Inputs) -> Outputs:
    found = []
    for kind in ("collect", "distribute"):
        masks = given.randn(2, 35, 3, 4)
        found += with_gradients(ops.PSAMask(kind, (5, 7))(masks), masks)
    return found


CASES: tuple[Callable[[Inputs], Outputs], ...] = (
    *(nms, soft_nms, nms_match, bbox_overlaps, line_nms, roi_align, roi_pool, deform_roi_pool),
    *(deform_conv, modulated_deform_conv, sync_bn),
    *(focal_losses, deformable_attention, carafe, carafe_naive, masked_convolution, psamask),
)


def difference(case: Callable[[Inputs], Outputs], device: str) -> float:
    """The largest difference of an output or gradient on ``device`` from the CPU's, relative to its largest value.

    Raises:
        ValueError: outputs have other shapes, or are not finite.
    """
    here, there = case(Inputs("cpu")), case(Inputs(device))
    if [t.shape for t in here] != [t.shape for t in there]:
        raise ValueError(f"shapes {[tuple(t.shape) for t in there]}, on the CPU {[tuple(t.shape) for t in here]}")
    worst = 0.0
    for ours, theirs in zip(there, here, strict=True):
        ours, theirs = ours.detach().double().cpu(), theirs.detach().double()
        if not ours.isfinite().all():
            raise ValueError("values that are not finite")
        if theirs.numel():
            worst = max(worst, ((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-12)).item())
    return worst

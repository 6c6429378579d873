"""Losses for small and rare classes, as the option ``loss`` takes them. Unlabelled pixels do not change them.

mmseg's FocalLoss fails for several classes on the CPU. Its DiceLoss counts the predictions at unlabelled pixels. Its
LovaszLoss fails where one pixel or none is labelled.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmseg.models.losses import LovaszLoss
from mmseg.registry import MODELS
from torch import Tensor, nn

from backbones.errors import UserError
from ziggurat.engine.focal import GAMMA, focal_cross_entropy
from ziggurat.engine.loss_option import described
from ziggurat.engine.num_classes import parts

CROSS_ENTROPY = dict(type="CrossEntropyLoss", use_sigmoid=False)
FOCAL = dict(type="SoftmaxFocalLoss", gamma=GAMMA)
DICE = dict(type="ClassDiceLoss")
LOVASZ = dict(type="SafeLovaszLoss", reduction="none")
LOSSES: Mapping[str, tuple[dict[str, Any], ...]] = {
    "cross_entropy": (CROSS_ENTROPY,),
    "focal": (FOCAL,),
    "dice": (DICE,),
    "lovasz": (LOVASZ,),
    "cross_entropy+dice": (CROSS_ENTROPY, DICE),
    "focal+dice": (FOCAL, DICE),
}
SMALL = 1e-6  # added to counts of pixels


class PixelLoss(nn.Module):
    """What the losses below share.

    Args:
        loss_weight: factor on the loss.
        class_weight: a number for each class.
        loss_name: the loss's name in the log; begins with ``loss_``.
    """

    def __init__(
        self, loss_weight: float = 1.0, class_weight: Sequence[float] | None = None, loss_name: str = "loss_pixels"
    ):
        super().__init__()
        self.loss_weight, self.class_weight, self.loss_name = loss_weight, class_weight, loss_name

    def weights(self, logits: Tensor) -> Tensor:
        """(C,): the weights of the classes, 1 by default."""
        if self.class_weight is None:
            return logits.new_ones(logits.shape[1], dtype=torch.float32)
        return torch.tensor(self.class_weight, dtype=torch.float32, device=logits.device)


@MODELS.register_module()
class SoftmaxFocalLoss(PixelLoss):
    """``ziggurat.engine.focal.focal_cross_entropy``: the mean over the labelled pixels.

    Args:
        gamma: 0 or more; how fast the weight of what is known falls.
        loss_weight, class_weight, loss_name: as for :class:`PixelLoss`.
    """

    def __init__(self, gamma: float = GAMMA, loss_name: str = "loss_focal", **kwargs: Any):
        super().__init__(loss_name=loss_name, **kwargs)
        self.gamma = gamma

    def forward(
        self, logits: Tensor, labels: Tensor, weight: Tensor | None = None, ignore_index: int = 255, **_: Any
    ) -> Tensor:
        """The loss of logits (B, C, H, W) and labels (B, H, W). ``weight``, (B, H, W), is of a pixel sampler."""
        labelled = labels != ignore_index
        known = labels.masked_fill(~labelled, 0)
        values = focal_cross_entropy(logits, known, self.gamma, self.weights(logits)) * labelled
        values = values if weight is None else values * weight
        return self.loss_weight * values.sum() / labelled.sum().clamp(min=1)


@MODELS.register_module()
class ClassDiceLoss(PixelLoss):
    """One minus the soft Dice of each class that the batch has, and their mean. So small classes count as large ones.

    The Dice of a class is 2 x the sum of its probabilities at its pixels / (that sum over all labelled pixels + the
    number of its pixels), as in nnU-Net (Isensee et al., 2021).

    Args:
        loss_weight, class_weight, loss_name: as for :class:`PixelLoss`.
    """

    def __init__(self, loss_name: str = "loss_dice", **kwargs: Any):
        super().__init__(loss_name=loss_name, **kwargs)

    def forward(
        self, logits: Tensor, labels: Tensor, weight: Tensor | None = None, ignore_index: int = 255, **_: Any
    ) -> Tensor:
        """The loss of logits (B, C, H, W) and labels (B, H, W). A pixel sampler's ``weight`` does not count."""
        labelled = labels != ignore_index
        known = labels.masked_fill(~labelled, 0)
        found = logits.float().softmax(dim=1) * labelled.unsqueeze(1)
        own = found.gather(1, known.unsqueeze(1)).flatten()
        nothing = found.new_zeros(logits.shape[1])
        shared = nothing.index_add(0, known.flatten(), own)
        pixels = nothing.index_add(0, known.flatten(), labelled.flatten().float())
        dice = (2 * shared + SMALL) / (found.sum((0, 2, 3)) + pixels + SMALL)
        weights = self.weights(logits) * (pixels > 0)
        return self.loss_weight * ((1 - dice) * weights).sum() / weights.sum().clamp(min=SMALL)


@MODELS.register_module()
class SafeLovaszLoss(LovaszLoss):
    """mmseg's LovaszLoss of several classes; 0 for a batch with one labelled pixel or none, where mmseg's fails."""

    def forward(self, cls_score: Tensor, label: Tensor, weight: Tensor | None = None, **kwargs: Any) -> Tensor:
        if (label != kwargs.get("ignore_index", 255)).sum() < 2:
            return cls_score.sum() * 0
        return super().forward(cls_score.float(), label, weight, **kwargs)


def loss_places(cfg: Any, name: str) -> list[tuple[str, Any, str]]:
    """The heads of a segmenter whose losses compare every pixel with its class, as ``Task.loss_places`` gives them.

    Raises:
        UserError: a head matches queries with segments, or its output is one map for two classes.
    """
    found = []
    for part in ("decode_head", "auxiliary_head"):
        given = (cfg.get("model") or {}).get(part)
        for index, head in enumerate(given if isinstance(given, list | tuple) else [given]):
            if head is None:
                continue
            place = f"{part}.{index}" if isinstance(given, list | tuple) else part
            owner = next((one for one in parts(head) if one.get("loss_decode") is not None), head)
            matched = {key: value for key, value in head.items() if key in ("loss_cls", "loss_mask", "loss_dice")}
            if matched:
                there = " + ".join(described(value) for value in matched.values())
                raise UserError(f"loss={name}: {head.get('type')} has losses of its own, {there}; leave loss out")
            if owner.get("out_channels") == 1:
                raise UserError(
                    f"loss={name}: {owner.get('type')} has out_channels=1, one map for two classes, and its loss "
                    f"{described(owner.get('loss_decode') or 'CrossEntropyLoss')} stays; leave loss or out_channels out"
                )
            found.append((f"{place}.loss_decode", owner, "loss_decode"))
    if not found:
        raise UserError(f"loss={name}: the model has no decode_head")
    return found

"""The losses that the option ``loss`` takes for detectors."""

from typing import Any

from mmdet.models.losses import CrossEntropyLoss
from mmdet.models.losses.utils import weight_reduce_loss
from mmdet.registry import MODELS
from torch import Tensor

from backbones.errors import UserError
from ziggurat.engine.focal import GAMMA, focal_cross_entropy
from ziggurat.engine.loss_option import described

LOSSES = {
    "cross_entropy": (dict(type="CrossEntropyLoss", use_sigmoid=False),),
    "focal": (dict(type="SoftmaxFocalLoss", gamma=GAMMA),),
}
SOFTMAX = ("CrossEntropyLoss", "SoftmaxFocalLoss")
HEADS = ("bbox_head", "panoptic_head", "rpn_head", "mask_head")  # the first of a model is named in a message


@MODELS.register_module()
class SoftmaxFocalLoss(CrossEntropyLoss):
    """``ziggurat.engine.focal.focal_cross_entropy`` over a softmax of classes and ground, for heads of an R-CNN.

    mmdet's FocalLoss takes each class for itself, and these heads test with a softmax.

    Args:
        gamma: 0 or more; how fast the weight of what is known falls.
        **kwargs: reduction, class_weight and loss_weight, as for mmdet's CrossEntropyLoss.
    """

    def __init__(self, gamma: float = GAMMA, **kwargs: Any):
        super().__init__(**kwargs)
        self.gamma = gamma
        self.cls_criterion = self.focal

    def focal(
        self,
        logits: Tensor,
        labels: Tensor,
        weight: Tensor | None = None,
        class_weight: Tensor | None = None,
        reduction: str = "mean",
        avg_factor: float | None = None,
        **_: Any,
    ) -> Tensor:
        values = focal_cross_entropy(logits, labels, self.gamma, class_weight)
        return weight_reduce_loss(values, None if weight is None else weight.float(), reduction, avg_factor)


def loss_places(cfg: Any, name: str) -> list[tuple[str, Any, str]]:
    """The box heads of an R-CNN, as ``Task.loss_places`` gives them.

    Raises:
        UserError: the detector has no such head, or the head's loss is no softmax over classes.
    """
    model = (cfg.get("model") or {}).get("detector") or cfg.get("model") or {}
    given = (model.get("roi_head") or {}).get("bbox_head")
    heads = list(given) if isinstance(given, list | tuple) else [given] if given else []
    if not heads:
        head = next((model[key] for key in HEADS if model.get(key)), {})
        theirs = described(head["loss_cls"]) if head.get("loss_cls") else "a loss of its own"
        raise UserError(
            f"loss={name}: {head.get('type', model.get('type'))} has {theirs}, which belongs to it; allowed: box heads "
            "of an R-CNN, or no loss"
        )
    places = []
    for index, head in enumerate(heads):
        old = head.get("loss_cls")
        softmax = old is None or (described(old).split(" ")[0] in SOFTMAX and not old.get("use_sigmoid"))
        if not softmax:
            raise UserError(
                f"loss={name}: {head.get('type')} has {described(old)}, which belongs to it; allowed: box heads with "
                "CrossEntropyLoss over a softmax, or no loss"
            )
        place = f"roi_head.bbox_head.{index}" if isinstance(given, list | tuple) else "roi_head.bbox_head"
        places.append((f"{place}.loss_cls", head, "loss_cls"))
    return places

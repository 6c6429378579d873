"""Segmenters as modules that ``ziggurat export`` records, and predictions from the scores of their files."""

import copy
from types import SimpleNamespace
from typing import Any

import torch.nn.functional as F
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.models.utils import Upsample
from torch import Tensor, nn

from backbones.errors import UserError
from segmentation.class_map import forget_scores

THRESHOLD = 0.3  # mmseg's, of a head with a single score per pixel


class Enlarged(nn.Module):
    """mmseg's ``Upsample`` by a whole factor, whose sizes stay free: (B, C, h, w) to (B, C, factor * h, factor * w)."""

    def __init__(self, factor: int, options: dict[str, Any]):
        super().__init__()
        self.factor, self.options = factor, options

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, [side * self.factor for side in x.shape[-2:]], **self.options)


def exported(model: nn.Module) -> nn.Module:
    """The module of a segmenter whose output is the scores of each class: (B, C, H, W) to (B, classes, h, w).

    Raises:
        UserError: the head gives no map of scores.
    """
    if not isinstance(head_of(model), BaseDecodeHead):
        raise UserError(
            f"{type(head_of(model)).__name__} of {type(model).__name__} is not exported; "
            "allowed: heads that give a score of each class for each place; or --backbone"
        )
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is Upsample and child.size is None and is_whole(child.scale_factor):
                options = dict(mode=child.mode, align_corners=child.align_corners)
                setattr(module, name, Enlarged(int(child.scale_factor), options))
    return model


def head_of(model: nn.Module) -> nn.Module:
    """The last decode head of a segmenter."""
    head = model.decode_head
    return head[-1] if isinstance(head, nn.ModuleList) else head


def is_whole(factor: Any) -> bool:
    return isinstance(factor, int | float) and factor == int(factor)


def samples_of_export(cfg: Any, outputs: list[Tensor], data_samples: list[Any]) -> list[Any]:
    """The samples with ``pred_sem_seg``, as mmseg's ``predict`` gives them.

    Args:
        cfg: the config of the segmenter.
        outputs: one tensor of scores, (B, classes, h, w).
        data_samples: of the B images, of one size after the preprocessing.
    """
    (scores,) = outputs
    after = steps_after(cfg.model)
    forget_scores(after)
    metas = [sample.metainfo for sample in data_samples]
    return after.postprocess_result(BaseDecodeHead.predict_by_feat(after, scores, metas), data_samples)


def steps_after(model: Any) -> SimpleNamespace:
    """What mmseg's steps after the network read of a segmenter, from its config."""
    head = model.decode_head[-1] if isinstance(model.decode_head, list | tuple) else model.decode_head
    threshold = THRESHOLD if head.get("threshold") is None else head.threshold
    after = SimpleNamespace(align_corners=head.get("align_corners", False))
    after.decode_head = SimpleNamespace(threshold=threshold)
    after.postprocess_result = lambda scores, samples=None: BaseSegmentor.postprocess_result(after, scores, samples)
    return after


def check_runtime(cfg: Any) -> None:
    """Raises UserError for a segmenter that looks at windows or at several views of an image."""
    if "module" in cfg.model:
        raise UserError("tile or tta is given; allowed for a segmenter with a runtime: neither of them")
    mode = (cfg.model.get("test_cfg") or {}).get("mode", "whole")
    if mode != "whole":
        raise UserError(
            f"model.test_cfg.mode is {mode!r}, and a runtime takes whole images; allowed: the option "
            "model.test_cfg.mode=whole, here or at the export, or no runtime"
        )

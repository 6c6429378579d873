"""Predictions from the scores of an exported segmenter, by mmseg's own steps after the network."""

from types import SimpleNamespace
from typing import Any

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors.base import BaseSegmentor
from torch import Tensor

from backbones.errors import UserError
from segmentation.class_map import forget_scores

THRESHOLD = 0.3  # mmseg's, of a head with a single score per pixel


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

"""The Distiller: a student, linear heads, and the loss between the student's features and the teacher's."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn

from backbones import PyramidBackbone, UserError
from backbones.checks import check_flag
from backbones.heads import linear
from classification.distill.teacher import build_teacher
from ziggurat.engine.console import say_note


class Distiller(BaseModel):
    """A student that learns the features of a frozen teacher on images without labels.

    The student and the teacher see the same crops. A linear head turns the student's pooled features into the
    teacher's, another head does this at each place of the last map. :func:`feature_loss` compares them. The heads are
    not part of the result, which is the student alone.

    Source: linear heads, the map resized to the teacher's, and mixed images as in LightlyTrain's distillation, version
    2 (lightly-ai/lightly-train@06b2531, _methods/distillationv2/distillationv2.py). A pooled head beside the dense one
    as in its version 3 (@11fca6e). Equal crops and mixed images come from "Knowledge distillation: a good teacher is
    patient and consistent" (arXiv:2106.05237).

    Args:
        backbone: the student, or its config ``dict(type="Backbone", arch=...)``.
        teacher: the arguments of ``build_teacher``.
        dense_weight: weight of the dense loss, 0 or more; the pooled loss has weight 1. 0 builds no dense head.
        mix: mix each image with another one of the batch, in random shares. The teacher sees the mixed images too.
        data_preprocessor: config of a ``BatchPreprocessor`` with the student's mean and std; 0.5 by default.
    """

    def __init__(
        self,
        backbone: PyramidBackbone | dict[str, Any],
        teacher: dict[str, Any],
        dense_weight: float = 1.0,
        mix: bool = True,
        data_preprocessor: dict[str, Any] | None = None,
    ):
        super().__init__(data_preprocessor or dict(type="BatchPreprocessor"))
        if type(dense_weight) not in (int, float) or not 0 <= dense_weight < float("inf"):
            raise UserError(f"dense_weight is {dense_weight!r}; allowed: numbers from 0 up")
        if not isinstance(backbone, nn.Module):
            last = {} if "out_blocks" in backbone else {"out_indices": (-1,)}
            backbone = MODELS.build({**last, **backbone})
        self.mix = check_flag("mix", mix)
        self.dense_weight = dense_weight
        self.teacher = build_teacher(**teacher)
        self.backbone = backbone
        channels = backbone.feature_info[-1].channels
        self.pooled_head = linear(channels, self.teacher.pooled_channels)
        if dense_weight:
            self.dense_head = linear(channels, self.teacher.dense_channels)

    def forward(self, inputs: Any, data_samples: None = None, mode: str = "tensor") -> Any:
        """Losses of a preprocessed batch, or the student's maps.

        Args:
            inputs: for ``"loss"`` a list with a tensor (B, 3, H, W) for each crop. Otherwise images (B, 3, H, W).
            data_samples: not used; there are no labels.
            mode: ``"loss"`` gives ``loss_pooled`` and ``loss_dense``, scalars. Any other mode gives the maps.
        """
        return self.loss(inputs) if mode == "loss" else self.backbone(inputs)

    def loss(self, crops: Sequence[Tensor]) -> dict[str, Tensor]:
        """The means of the losses over all crops. Crops of one size make one batch."""
        sums: dict[str, Tensor] = {}
        for size in dict.fromkeys(crop.shape for crop in crops):
            same = [crop for crop in crops if crop.shape == size]
            for name, value in self.loss_of(torch.cat(same)).items():
                sums[name] = sums.get(name, 0.0) + value * len(same) / len(crops)
        return sums

    def loss_of(self, images: Tensor) -> dict[str, Tensor]:
        """The losses of images (B, 3, H, W) of one size, normalised as the student's."""
        if self.mix:
            share = torch.rand(1).item()
            images = torch.lerp(images[torch.randperm(len(images))], images, share)
        pooled, dense = self.teacher(self.pixels(images))
        last = self.backbone(images)[-1]
        losses = {"loss_pooled": feature_loss(self.pooled_head(last.mean(dim=(2, 3))), pooled)}
        if self.dense_weight:
            found = self.dense_head(last.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            losses["loss_dense"] = self.dense_weight * dense_loss(found, dense)
        return losses

    def pixels(self, images: Tensor) -> Tensor:
        """Images in 0..1 again, which the teacher normalises in its own way."""
        return (images * self.data_preprocessor.std + self.data_preprocessor.mean) / 255

    def init_weights(self) -> None:
        """Loads the student's ``pretrained`` and the teacher's weights. mmengine calls this before training."""
        self.backbone.init_weights()
        self.teacher.load()
        say_note(self.teacher)


def feature_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cosine similarity, plus the mean squared error, averaged over all vectors.

    Both compare the student's vectors with the teacher's standardised ones: mean 0 and variance 1 over the channels.
    Standardised targets make the loss independent of the teacher's scale (arXiv:2205.14141, section 3.2).

    Args:
        student: (B, C) or (B, C, H, W).
        teacher: of the same shape.
    """
    student, teacher = student.float().movedim(1, -1), teacher.float().movedim(1, -1)
    target = F.layer_norm(teacher, teacher.shape[-1:])
    return 1 - F.cosine_similarity(student, target, dim=-1).mean() + F.mse_loss(student, target)


def dense_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """The feature loss of two maps. The student's (B, C, h, w) is resized to the teacher's (B, C, H, W)."""
    if student.shape[2:] != teacher.shape[2:]:
        student = F.interpolate(student.float(), teacher.shape[2:], mode="bilinear")
    return feature_loss(student, teacher)

"""Pretraining without labels: a student, one of our networks, learns the features of a frozen teacher."""

from classification.distill.backbone_file import NAME, BackboneFileHook
from classification.distill.images import UnlabelledImages
from classification.distill.model import Distiller
from classification.distill.teacher import Teacher, build_teacher

__all__ = ["NAME", "BackboneFileHook", "Distiller", "Teacher", "UnlabelledImages", "build_teacher"]

"""Hands the networks to mm's registries; importing it makes the engine's own hooks and optimiser wrappers known."""

from mmengine.registry import MODELS

from backbones import FAMILIES, SimpleFeaturePyramid
from engine import checkpoints, console, hooks, optim  # noqa: F401


def register_backbones() -> None:
    """Makes ``dict(type="VAN", arch=...)`` and its like known in configs, and the neck for nets of one scale.

    They go to mmengine's own registry. The registries of mmdet and mmseg ask it for names that they do not hold.
    So a project of theirs may register a ``VAN`` of its own, before or after. In that library's configs ``VAN`` then
    means the project's network, and ``mmengine.VAN`` means this one. Doing it again changes nothing.
    """
    for module in (*FAMILIES, SimpleFeaturePyramid):
        if module.__name__ not in MODELS.module_dict:
            MODELS.register_module(module=module)

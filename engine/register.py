"""Hands the networks to mm's registries; importing it makes the engine's own hooks and optimiser wrappers known."""

from typing import Any

from mmengine.registry import MODELS

from backbones import FAMILIES, PyramidBackbone, SimpleFeaturePyramid
from backbones.registry import family_of
from engine import checkpoints, console, hooks, optim  # noqa: F401


def register_backbones() -> None:
    """Makes ``dict(type="Backbone", arch=...)``, ``"VAN"`` and its like known in configs, and the simple pyramid.

    They go to mmengine's own registry. The registries of mmdet and mmseg ask it for names that they do not hold.
    So a project of theirs may register a ``VAN`` of its own, before or after. In that library's configs ``VAN`` then
    means the project's network, and ``mmengine.VAN`` means this one. Doing it again changes nothing.
    """
    named = {module.__name__: module for module in (*FAMILIES, SimpleFeaturePyramid)} | {"Backbone": build_any}
    for name, module in named.items():
        if name not in MODELS.module_dict:
            MODELS.register_module(name=name, module=module)


def build_any(arch: str, **kwargs: Any) -> PyramidBackbone:
    """The network of any arch: ``dict(type="Backbone", arch="pvig_small", ...)`` in a config."""
    return family_of(arch)(arch, **kwargs)

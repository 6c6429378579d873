"""Hands the networks to an mm registry; importing it makes the engine's own hooks and optimiser wrappers known."""

from mmengine.registry import Registry

from backbones import FAMILIES, SimpleFeaturePyramid
from engine import checkpoints, console, hooks, optim  # noqa: F401


def register_backbones(registry: Registry) -> None:
    """Makes ``dict(type="VAN", arch=...)`` and its like known to ``registry``, and the neck for nets of one scale.

    Doing it again changes nothing.
    """
    for module in (*FAMILIES, SimpleFeaturePyramid):
        registry.register_module(module=module, force=True)

"""Hands the networks to an mm registry; importing it makes the engine's own hooks and optimiser wrappers known."""

from mmengine.registry import Registry

from backbones import FAMILIES
from engine import hooks, optim  # noqa: F401


def register_backbones(registry: Registry) -> None:
    """Makes ``dict(type="VAN", arch=...)`` and its like known to ``registry``; doing it again changes nothing."""
    for family in FAMILIES:
        registry.register_module(module=family, force=True)

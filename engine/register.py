"""Hands the networks to an mm registry; importing it makes the engine's own hooks and optimiser wrappers known."""

from typing import Any

from mmengine.registry import Registry

from backbones import FAMILIES, PyramidBackbone, SimpleFeaturePyramid
from backbones.registry import family_of
from engine import hooks, optim  # noqa: F401


def register_backbones(registry: Registry) -> None:
    """Makes ``dict(type="Backbone", arch=...)``, ``"VAN"`` and its like known to ``registry``, and the simple pyramid.

    Doing it again changes nothing.
    """
    for module in (*FAMILIES, SimpleFeaturePyramid):
        registry.register_module(module=module, force=True)
    registry.register_module(name="Backbone", module=build_any, force=True)


def build_any(arch: str, **kwargs: Any) -> PyramidBackbone:
    """The network of any arch: ``dict(type="Backbone", arch="pvig_small", ...)`` in a config."""
    return family_of(arch)(arch, **kwargs)

"""Registers the networks for mm's configs. Importing this file registers the engine's hooks and optimiser wrappers.

From then on mmengine loads no file that can run code, see ``ziggurat.engine.safe_loading``.
"""

from typing import Any

from mmengine.registry import MODELS

from backbones import FAMILIES, PyramidBackbone, SimpleFeaturePyramid
from backbones.registry import family_of
from ziggurat.engine import (  # noqa: F401
    checkpoint_hook,
    early_stopping,
    hooks,
    non_finite,
    optim,
    progress,
    repeated,
    safe_loading,
    schedules,
    seeding,
    signals,
    summary,
    tracker_backends,
    unreadable,
    watchdog,
)


def register_backbones() -> None:
    """Registers ``Backbone``, ``VAN``, ``HorNet``, ... and ``SimpleFeaturePyramid`` as types for configs.

    The names go to mmengine's own registry. The registries of mmdet and mmseg look there for names that they lack. So a
    user's project may register a ``VAN`` of its own in mmdet, before or after. In mmdet's configs ``VAN`` then means
    the project's network, and ``mmengine.VAN`` means ours. Registering again changes nothing.
    """
    named = {module.__name__: module for module in (*FAMILIES, SimpleFeaturePyramid)} | {"Backbone": build_any}
    for name, module in named.items():
        if name not in MODELS.module_dict:
            MODELS.register_module(name=name, module=module)


def build_any(arch: str, **kwargs: Any) -> PyramidBackbone:
    """Builds ``dict(type="Backbone", arch="pvig_small", ...)`` of a config: the network of any arch."""
    return family_of(arch)(arch, **kwargs)

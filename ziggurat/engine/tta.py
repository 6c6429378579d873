"""Test-time augmentation: the config's ``tta_model`` and ``tta_pipeline`` in the place of its test pipeline."""

from typing import Any

from mmengine.config import ConfigDict

from backbones.errors import UserError
from ziggurat.engine.splits import datasets_of


def use_tta(cfg: Any) -> None:
    """Changes a config in place to test with augmentation.

    Raises:
        UserError: the config has no ``tta_model`` or ``tta_pipeline``.
    """
    for key in ("tta_model", "tta_pipeline"):
        if not cfg.get(key):
            raise UserError(f"--tta: config {cfg.filename} has no {key}")
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    for dataset in datasets_of(cfg, "test"):
        dataset.pipeline = cfg.tta_pipeline

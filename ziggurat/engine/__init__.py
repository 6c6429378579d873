"""The parts around mmengine that all three tasks share: configs, runs, checkpoints, prediction, the command line.

from ziggurat import engine
predictor = engine.Predictor("work_dirs/mask_rcnn_van_b2_fpn_1x_coco/epoch_12.pth")
found = predictor("street.jpg")  # found.boxes, found.masks, found.scores, found.names
"""

from typing import Any

__all__ = ["Predictor"]


def __getattr__(name: str) -> Any:
    """``ziggurat.engine.Predictor`` is imported on its first use: the tools must start quickly."""
    if name in __all__:
        from ziggurat.engine.predictor import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Predictions as ``Detections`` of roboflow's supervision, for its annotators, trackers, zones and slicers.

This module alone imports supervision.
"""

import numpy as np
import supervision as sv

from ziggurat.engine.results import Instances


def detections(result: Instances) -> sv.Detections:
    """The objects of an image, as of ``Predictor(...)(image)``, with the names of their classes in ``data``."""
    masks = None if result.masks is None else np.array([np.asarray(mask) for mask in result.masks], bool)
    return sv.Detections(
        xyxy=result.boxes.astype(np.float32).reshape(-1, 4),
        mask=masks if masks is not None and len(masks) else None,
        confidence=result.scores,
        class_id=result.labels,
        data={"class_name": np.array(result.names, dtype=str)},
    )

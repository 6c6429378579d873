"""The published weights of detectors, by the names of their configs.

Source: object_detection/README.md of raoyongming/HorNet@ac9e210.
"""

from backbones.weights.table import HORNET, TSINGHUA
from ziggurat.engine.published import PublishedModel


def hornet(page: str) -> PublishedModel:
    return PublishedModel(HORNET, (f"{TSINGHUA}{page}/?dl=1",))


WEIGHTS = {
    "cascade_mask_rcnn_hornet_tiny_7x7_fpn_3x_coco": hornet("19daa3854a6b4c75bf23"),
    "cascade_mask_rcnn_hornet_tiny_gf_fpn_3x_coco": hornet("1ca353fb6ac44b54a2d8"),
    "cascade_mask_rcnn_hornet_small_7x7_fpn_3x_coco": hornet("6af0439735dc473f8646"),
    "cascade_mask_rcnn_hornet_small_gf_fpn_3x_coco": hornet("fd9a3127b18f404d8e95"),
    "cascade_mask_rcnn_hornet_base_7x7_fpn_3x_coco": hornet("324de62466a848129e19"),
    "cascade_mask_rcnn_hornet_base_gf_fpn_3x_coco": hornet("97d8587c8a0248fcac19"),
    "cascade_mask_rcnn_hornet_large_7x7_in22k_fpn_3x_coco": hornet("975af666e64840588e3e"),
    "cascade_mask_rcnn_hornet_large_gf_in22k_fpn_3x_coco": hornet("597f655fe9b84d50bffb"),
}

# The real VAN-B0 with slim heads on the demo's scenes of digits, about two minutes on one CPU core. The demo
# starts from its own classifier with --cfg-options model.backbone.pretrained=CHECKPOINT.
_base_ = [
    "_base_/mask_rcnn_fpn_slim.py",
    "_base_/digit_scenes.py",
    "_base_/adamw_200i.py",
    "../_base_/runtime.py",
]

model = dict(backbone=dict(arch="van_b0", pretrained=None))
default_hooks = dict(logger=dict(interval=20, log_metric_by_epoch=False), checkpoint=dict(by_epoch=False, interval=200))
log_processor = dict(window_size=20, by_epoch=False)

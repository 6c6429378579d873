# The real VAN-B0 with a slim Semantic FPN on the demo's scenes of digits, two minutes on one CPU core. Start it
# from the demo's classifier with --cfg-options model.backbone.pretrained=CHECKPOINT.
_base_ = [
    "_base_/semantic_fpn_slim.py",
    "_base_/digit_scenes.py",
    "_base_/schedule_500i.py",
    "_base_/runtime.py",
]

model = dict(backbone=dict(arch="van_b0", pretrained=None))

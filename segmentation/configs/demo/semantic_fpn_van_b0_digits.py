# The real VAN-B0 with a slim Semantic FPN on the demo's scenes of digits, two minutes on one CPU core. Start it
# from the demo's classifier with --cfg-options model.backbone.pretrained=CHECKPOINT.
_base_ = [
    "../_base_/models/semantic_fpn.py",
    "_base_/digit_scenes.py",
    "_base_/schedule_500i.py",
    "_base_/runtime.py",
]

loss_decode = dict(class_weight=[0.2] + [1.0] * 10)  # nine pixels in ten are background; the digits count
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(arch="van_b0", pretrained=None),
    neck=dict(out_channels=64),
    decode_head=dict(in_channels=[64, 64, 64, 64], channels=64, loss_decode=loss_decode),
)

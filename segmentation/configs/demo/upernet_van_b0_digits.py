# The real VAN-B0 with a slim UPerNet on the demo's scenes of digits, two to three minutes on one CPU core. Start it
# from the demo's classifier with --cfg-options model.backbone.pretrained=CHECKPOINT.
_base_ = [
    "../_base_/models/upernet.py",
    "_base_/digit_scenes.py",
    "_base_/schedule_500i.py",
    "_base_/runtime.py",
]

loss_decode = dict(class_weight=[0.2] + [1.0] * 10)  # nine pixels in ten are background; the digits count
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(arch="van_b0", pretrained=None),
    # The last map has 4 x 4 positions here, too few for the usual pooling.
    decode_head=dict(channels=64, pool_scales=(2, 4), loss_decode=loss_decode),
    auxiliary_head=dict(channels=64, loss_decode=loss_decode),
)

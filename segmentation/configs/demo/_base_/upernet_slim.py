# UPerNet with narrow maps, for scenes of 128x128.
_base_ = "../../_base_/models/upernet.py"

loss_decode = dict(class_weight=[0.2] + [1.0] * 10)  # nine pixels in ten are background; the digits count
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    # The last map has 4 x 4 positions here, too few for the usual pooling.
    decode_head=dict(channels=64, pool_scales=(2, 4), loss_decode=loss_decode),
    auxiliary_head=dict(channels=64, loss_decode=loss_decode),
)

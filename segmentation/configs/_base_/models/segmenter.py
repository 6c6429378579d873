# What the segmenters have in common. A leaf gives model.backbone.arch. ziggurat/engine/complete.py replaces "backbone"
# by the channels of the maps, "weights" by the statistics of the weights. Norms of heads are plain BN unless a head
# says so. `sync_bn` of the schedule synchronises them if several GPUs train together.
model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean="weights",
        std="weights",
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(512, 512),
    ),
    backbone=dict(type="Backbone", out_indices=(0, 1, 2, 3), pretrained=True),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)

# UPerNet (arXiv 1807.10221) with an FCN head on stage 3 as auxiliary loss. A leaf gives model.backbone.arch.
# engine/complete.py replaces "backbone" by the channels of the maps, "weights" by the statistics of the weights.
# Norms are plain BN. `sync_bn` of the schedule synchronises them if several GPUs train together.
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
    decode_head=dict(
        type="UPerHead",
        in_channels="backbone",
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=512,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=dict(type="BN", requires_grad=True),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
    auxiliary_head=dict(
        type="FCNHead",
        in_channels="backbone",
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=dict(type="BN", requires_grad=True),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=0.4),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)

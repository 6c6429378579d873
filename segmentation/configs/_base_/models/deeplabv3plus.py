# DeepLabV3+ (arXiv 1802.02611) with an FCN head on stage 3 as auxiliary loss. It needs a last map of stride 16.
_base_ = "upernet.py"

model = dict(
    backbone=dict(output_stride=16),
    decode_head=dict(
        _delete_=True,
        type="DepthwiseSeparableASPPHead",
        in_channels="backbone",
        in_index=3,
        channels=512,
        dilations=(1, 6, 12, 18),
        c1_in_channels="backbone",  # of the first map
        c1_channels=48,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=dict(type="BN", requires_grad=True),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
)

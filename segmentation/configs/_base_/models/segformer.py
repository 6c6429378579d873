# SegFormer's head (arXiv 2105.15203): linear layers on all four maps.
_base_ = "segmenter.py"

model = dict(
    decode_head=dict(
        type="SegformerHead",
        in_channels="backbone",
        in_index=[0, 1, 2, 3],
        channels=256,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=dict(type="BN", requires_grad=True),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
)

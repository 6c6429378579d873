# SegFormer's head (arXiv 2105.15203): linear layers on all four maps. A leaf gives model.backbone.arch. For words and
# norms see upernet.py.
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
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)

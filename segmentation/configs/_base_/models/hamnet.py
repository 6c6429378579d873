# HamNet (arXiv 2109.04553): a matrix decomposition of the last map, with an FCN head on stage 3 as auxiliary loss.
_base_ = "light_ham.py"

model = dict(
    decode_head=dict(
        _delete_=True,
        type="HamHead",
        in_channels="backbone",
        in_index=3,
        channels=512,
        ham_channels=512,
        ham_kwargs=dict(MD_R=64),
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=dict(type="GN", num_groups=32, requires_grad=True),
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
        norm_cfg=dict(type="GN", num_groups=32, requires_grad=True),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=0.4),
    ),
)

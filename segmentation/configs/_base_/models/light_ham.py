# Light-Ham (arXiv 2109.04553, 2209.08575): a matrix decomposition of the maps from stride 8 on, with group norms.
_base_ = "segmenter.py"

model = dict(
    decode_head=dict(
        type="LightHamHead",
        in_channels="backbone",
        in_index=[1, 2, 3],
        channels=512,
        ham_channels=512,
        ham_kwargs=dict(MD_R=64),
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=dict(type="GN", num_groups=32, requires_grad=True),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
)

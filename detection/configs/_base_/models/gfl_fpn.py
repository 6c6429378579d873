# GFL (arXiv 2006.04388): ATSS with quality-aware scores and box distributions.
_base_ = "atss_fpn.py"

model = dict(
    type="GFL",
    bbox_head=dict(
        _delete_=True,
        type="GFLHead",
        num_classes=80,
        in_channels=256,
        stacked_convs=4,
        feat_channels=256,
        anchor_generator=_base_.model.bbox_head.anchor_generator,
        loss_cls=dict(type="QualityFocalLoss", use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_dfl=dict(type="DistributionFocalLoss", loss_weight=0.25),
        loss_bbox=dict(type="GIoULoss", loss_weight=2.0),
        reg_max=16,
    ),
)

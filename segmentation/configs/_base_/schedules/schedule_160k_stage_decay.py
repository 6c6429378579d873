# schedule_160k.py where each stage learns at 0.9 times the rate of the next.
_base_ = "schedule_160k.py"

optim_wrapper = dict(
    constructor="ParamGroups",
    optimizer=dict(lr=1e-4, weight_decay=0.05),
    paramwise_cfg=dict(_delete_=True, layer_decay=0.9, num_layers=6, decay_type="stage_wise"),
)

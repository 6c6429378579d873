# adamw_3x.py with 12 groups of layers, each of which learns at 0.7 times the rate of the next, and a shorter warm-up.
_base_ = "adamw_3x.py"

optim_wrapper = dict(
    constructor="ParamGroups",
    optimizer=dict(lr=2e-4),
    paramwise_cfg=dict(_delete_=True, layer_decay=0.7, num_layers=12),
)
param_scheduler = _base_.param_scheduler
param_scheduler[0].end = 500

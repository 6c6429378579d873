# VAN-B0 learns a teacher's features on the demo's digits without labels, about four minutes on two CPU cores.
# tools/bench/distillation.py starts this run with the demo's classifier as teacher.
_base_ = ["../_base_/models/distiller.py", "_base_/unlabelled_digits.py", "_base_/adamw_4e.py", "../_base_/runtime.py"]

model = dict(backbone=dict(arch="van_b0"), teacher=dict(name="van_b0"))
val_cfg = test_cfg = None
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(save_best=None))
custom_hooks = [dict(type="BackboneFileHook")]

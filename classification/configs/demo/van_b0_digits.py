# The real VAN-B0 on the demo's digits, two to three minutes on two CPU cores. The other tasks start from these weights.
_base_ = [
    "../_base_/van.py",
    "../_base_/digits.py",
    "../_base_/adamw_4e.py",
    "../_base_/runtime.py",
]

model = dict(backbone=dict(drop_path_rate=0.0), num_classes=10, mixup=None, data_preprocessor=dict(random_erasing=None))
default_hooks = dict(logger=dict(interval=20))

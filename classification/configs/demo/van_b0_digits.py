# The real VAN-B0 on the demo's digits, two to three minutes on two CPU cores. The other tasks start from these weights.
_base_ = [
    "../_base_/models/classifier.py",
    "_base_/digits.py",
    "_base_/adamw_4e.py",
    "../_base_/runtime.py",
]

model = dict(backbone=dict(arch="van_b0"), num_classes=10, label_smoothing=0.1)
default_hooks = dict(logger=dict(interval=20))

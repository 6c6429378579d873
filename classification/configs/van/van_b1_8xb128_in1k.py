# 8 GPUs x 128 images. The authors' recipe; the paper states lr 5e-4 and an averaged copy instead.
_base_ = [
    "../_base_/van.py",
    "../_base_/imagenet.py",
    "../_base_/adamw_300e.py",
    "../_base_/runtime.py",
]

model = dict(backbone=dict(arch="van_b1", drop_path_rate=0.1))

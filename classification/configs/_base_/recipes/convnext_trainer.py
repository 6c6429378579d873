# HorNet and VAN-22k use the trainer of ConvNeXt (facebookresearch/ConvNeXt, main.py): a rate for every step, with a
# warm-up from 0.
_base_ = "augmented.py"

train_dataloader = dict(dataset=dict(transform=dict(interpolation="bicubic")))
param_scheduler = dict(
    _delete_=True, type="StepCosineLR", convert_to_iter_based=True, epochs=300, warmup_epochs=20, eta_min=1e-6
)
randomness = dict(seed=0)

# The trainer of ConvNeXt (facebookresearch/ConvNeXt, main.py), which HorNet and VAN-22k use: a rate for every step, and
# a warm-up from 0.
#
# The trainer skips the last batches of an epoch if they do not fill a step. Here the step goes on into the next epoch.
_base_ = "augmented.py"

train_dataloader = dict(dataset=dict(transform=dict(interpolation="bicubic")))
optim_wrapper = dict(optimizer=dict(lr=4e-3))
param_scheduler = dict(
    _delete_=True, type="StepCosineLR", convert_to_iter_based=True, epochs=300, warmup_epochs=20, eta_min=1e-6
)
auto_scale_lr = dict(base_batch_size=4096)
randomness = dict(seed=0)

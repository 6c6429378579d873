# Distillation without labels, a recipe of our own. The linear heads, the mixed images and the limit of the gradient are
# those of LightlyTrain (lightly-ai/lightly-train@06b2531), which takes LARS and one crop of an image.
_base_ = [
    "../models/distiller.py",
    "../data/unlabelled.py",
    "../schedules/adamw_300e.py",
    "../runtime.py",
]

optim_wrapper = dict(clip_grad=dict(max_norm=1.0))
param_scheduler = dict(epochs=100)
train_cfg = dict(max_epochs=100)
val_cfg = None  # there are no labels to test with
test_cfg = None
default_hooks = dict(checkpoint=dict(save_best=None))
custom_hooks = [dict(type="BackboneFileHook")]

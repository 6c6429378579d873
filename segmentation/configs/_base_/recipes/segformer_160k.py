# mmsegmentation's recipe of SegFormer (configs/segformer): 8 GPUs x 2 crops, 160,000 iterations, ten times the rate for
# the head. Warm-up multiplies the decay, as in the other segmenters here.
_base_ = ["../models/segformer.py", "../data/ade20k.py", "../schedules/schedule_160k.py", "../runtime.py"]

optim_wrapper = dict(paramwise_cfg=dict(custom_keys={"head": dict(lr_mult=10.0)}))

# VAN's Mask2Former for panoptic maps (arXiv 2202.09741, Table 14): 8 GPUs x 2 images, 50 epochs, large-scale jitter.
# The code was never released. mmdetection's Mask2Former fills the paper's gaps, and VAN's UPerNet gives the drop path.
_base_ = "mask2former_panoptic.py"

# The backbone's norms get no weight decay, as in Mask2Former's runs with Swin. A longer part of a name wins, so these
# win over "backbone".
norms = [f".{norm}.{part}" for norm in ("norm", "norm1", "norm2") for part in ("weight", "bias")]
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={name: dict(lr_mult=0.1, decay_mult=0.0) for name in norms}))
del norms

# Mask2Former for instances as in mmdetection (configs/mask2former, *_lsj-50e_coco): 8 GPUs x 2 images, 50 epochs,
# large-scale jitter. Small images are padded to the size of the crops.
_base_ = [
    "../models/mask2former_instance.py",
    "../data/coco_instance_lsj.py",
    "../schedules/mask2former_50e.py",
    "../runtime.py",
]

padding = dict(type="BatchFixedSizePad", size=(1024, 1024), img_pad_value=0, pad_mask=True, mask_pad_value=0)
model = dict(data_preprocessor=dict(batch_augments=[dict(padding, pad_seg=False)]))
del padding
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=5000))
log_processor = dict(by_epoch=False)

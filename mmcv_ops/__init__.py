"""Stands in for mmcv's compiled extension, `mmcv._ext`, where mmcv was installed without a compiler.

    import mmcv_ops
    mmcv_ops.install()  # before the first import of mmcv.ops, mmdet or mmseg

After `install()`, `mmcv.ops` imports and runs on CPU and CUDA, on torchvision's operators and plain PyTorch. A compiled
extension, where present, is used instead; one that is present but broken still raises. `import mmcv_ops` imports
nothing else: torch and torchvision are loaded when mmcv first asks for its extension.

Backed, exactly or within 1e-5 of the compiled operators (float32):

    boxes.py      nms, softnms, nms_match, bbox_overlaps
    roi.py        roi_align, roi_pool
    deform.py     deform_conv, modulated_deform_conv
    losses.py     sigmoid_focal_loss, softmax_focal_loss
    attention.py  ms_deform_attn
    upsample.py   carafe, carafe_naive
    masks.py      masked_im2col, masked_col2im, psamask

Where an operator has a backward, it is backed too. Any other name is a callable that raises NotImplementedError with
the operator's name.

Known differences from the compiled operators:
- Equal scores: nms and nms_match visit the lower index first, on every device. The compiled sort leaves it open.
- float16 and bfloat16 are computed in float32 and rounded once, at the end. Operators that a compiled CPU build lacks
  (focal losses, roi_pool, carafe, ms_deform_attn, masked convolution) run on CPU as they do on CUDA.
"""

from mmcv_ops.finder import install

__all__ = ["install"]

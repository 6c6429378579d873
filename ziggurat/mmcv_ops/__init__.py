"""Stands in for mmcv's compiled extension, `mmcv._ext`, where mmcv was installed without a compiler.

An installation of the project (`pip install .`, also `-e`) puts the stand-in in place when Python starts. So mmdet,
mmseg and their tools work in any order of imports. The environment variable ZIGGURAT_NO_MMCV_OPS=1 turns this off.
Without an installation, for example with PYTHONPATH alone:

    from ziggurat import mmcv_ops
    mmcv_ops.install()  # before the first import of mmcv.ops, mmdet or mmseg

With the stand-in, `mmcv.ops` imports and runs on CPU and CUDA, on torchvision's operators and plain PyTorch. If there
is a compiled extension, it is used instead, and a broken one still raises. torch and torchvision are imported only
when mmcv asks for its extension, so the stand-in does not slow down the start of Python.

These operators equal the compiled ones exactly or within 1e-5 (float32), forward and backward:

    boxes.py      nms, softnms, nms_match, bbox_overlaps
    roi.py        roi_align, roi_pool
    deform.py     deform_conv, modulated_deform_conv
    deform_roi.py deform_roi_pool
    lines.py      line_nms
    losses.py     sigmoid_focal_loss, softmax_focal_loss
    sync_bn.py    sync_bn
    attention.py  ms_deform_attn
    upsample.py   carafe, carafe_naive
    masks.py      masked_im2col, masked_col2im, psamask

Any other name is a callable that raises NotImplementedError with the operator's name.

Known differences from the compiled operators:

- Equal scores: nms and nms_match visit the lower index first, on every device. The compiled order is not defined.
- line_nms visits the lines by score. The compiled CUDA kernel of mmcv 2.3.6 does so only for lines that are sorted.
- float16 and bfloat16 are computed in float32, and rounded once at the end.
- Operators that a compiled CPU build lacks (focal losses, roi_pool, deform_roi_pool, line_nms, sync_bn, carafe,
  ms_deform_attn, masked convolution) run on the CPU as on CUDA.
"""

from ziggurat.mmcv_ops.finder import install

__all__ = ["install"]

"""Registers networks and necks for mmdet's configs.

mmcv's operators and panopticapi are put in place before mmdet is imported.
"""

import warnings

from detection import panoptic_quality
from ziggurat import mmcv_ops
from ziggurat.engine import installed
from ziggurat.engine.console import quiet_imports
from ziggurat.engine.register import register_backbones

installed.check()
mmcv_ops.install()
panoptic_quality.install()
with quiet_imports():
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=False)

    from detection import extremes, losses, lvis, metrics, necks, openimages, panoptic_metric  # noqa: F401
register_backbones()

# PyTorch warns of calls in mmdet's DINO and RTMDet, which a user can do nothing about.
warnings.filterwarnings("ignore", message="torch.meshgrid: in an upcoming release")

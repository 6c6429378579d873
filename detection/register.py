"""Where networks and mmdet meet. What mmdet needs of mmcv's compiled operators is in place before it is imported."""

import mmcv_ops
from engine import distributions
from engine.quiet import quiet_imports
from engine.register import register_backbones

distributions.check()
mmcv_ops.install()
with quiet_imports():
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=False)

    from detection import necks  # noqa: F401
register_backbones()

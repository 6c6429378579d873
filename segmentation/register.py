"""Where networks and mmseg meet. What mmseg needs of mmcv's compiled operators is in place before it is imported."""

import warnings

import mmcv_ops
from engine import installed
from engine.console import quiet_imports
from engine.register import register_backbones

installed.check()
mmcv_ops.install()
with quiet_imports():
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=False)

    from segmentation import heads  # noqa: F401
register_backbones()

# Said by every loss that is built; averaging over all pixels is what the published recipes did.
warnings.filterwarnings("ignore", message="Default ``avg_non_ignore`` is False")

"""Registers networks and heads for mmseg's configs. mmcv's operators are put in place before mmseg is imported."""

import warnings

from ziggurat import mmcv_ops
from ziggurat.engine import installed, safe_loading
from ziggurat.engine.console import quiet_imports
from ziggurat.engine.register import register_backbones

installed.check()
mmcv_ops.install()
with quiet_imports():
    from mmseg.utils import io, register_all_modules

    register_all_modules(init_default_scope=False)
    io.pickle = safe_loading  # the backend "pickle" of mmseg's loading steps takes the function loads

    from segmentation import extremes, heads, losses, metrics  # noqa: F401
register_backbones()

# Every loss warns of this when it is built. The published recipes averaged over all pixels, too.
warnings.filterwarnings("ignore", message="Default ``avg_non_ignore`` is False")

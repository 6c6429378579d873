"""The import hook for `mmcv._ext`. It comes last, so a compiled extension is found first."""

import importlib
import os
import sys
from importlib.machinery import ModuleSpec

EXTENSION = "mmcv._ext"
# Modules that bind the operators when they are imported, or None if there are none.
TOO_LATE = ("mmcv.ops", "mmdet.models", "mmseg.models")
OPT_OUT = "ZIGGURAT_NO_MMCV_OPS"


def start() -> None:
    """Calls `install()` when Python starts, through the `.pth` file that `setup.py` adds to the installation.

    The environment variable ZIGGURAT_NO_MMCV_OPS=1 turns this off. An explicit `install()` still works.
    """
    if os.environ.get(OPT_OUT, "") in ("", "0"):
        install()


def install() -> None:
    """Make `import mmcv._ext` succeed without a compiled mmcv. Calling it again changes nothing.

    Raises:
        ImportError: a module of TOO_LATE was already imported, without the operators.
    """
    if FINDER in sys.meta_path or EXTENSION in sys.modules:
        return
    early = [name for name in TOO_LATE if name in sys.modules]
    if early:
        raise ImportError(
            f"ziggurat.mmcv_ops.install() came too late: {early[0]} was already imported without mmcv's operators; "
            f"install the project with pip (and without {OPT_OUT}=1), which puts the operators in place when Python "
            "starts, or import detection or segmentation before mmcv.ops, mmdet and mmseg"
        )
    sys.meta_path.append(FINDER)


class ExtensionFinder:
    """Finds `mmcv._ext` alone. Python asks this finder last, after all others on `sys.meta_path` have found nothing."""

    def find_spec(self, fullname, path=None, target=None):
        return ModuleSpec(fullname, self, origin="ziggurat.mmcv_ops") if fullname == EXTENSION else None

    def create_module(self, spec):
        return None  # Python makes a plain module

    def exec_module(self, module):
        operators = importlib.import_module("ziggurat.mmcv_ops.operators")
        module.__doc__ = operators.__doc__
        module.__getattr__ = unbacked
        vars(module).update(operators.OPERATORS)


FINDER = ExtensionFinder()


def unbacked(name: str):
    """The `__getattr__` of the stand-in: for an operator that is not backed, a callable that raises."""
    if name.startswith("_"):
        raise AttributeError(f"module {EXTENSION!r} has no attribute {name!r}")

    def operator(*args, **kwargs):
        raise NotImplementedError(
            f"mmcv operator {name!r} is not backed by ziggurat.mmcv_ops; it needs an mmcv with compiled operators: "
            "build one with a C++ (for CUDA also nvcc) compiler and pip's --no-build-isolation"
        )

    operator.__name__ = operator.__qualname__ = name
    return operator

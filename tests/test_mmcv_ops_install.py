"""`mmcv_ops.install()` lets mmcv.ops, mmdet and mmseg import without a compiler, and gives way to a compiled mmcv."""

import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import mmcv_ops

ROOT = Path(__file__).parent.parent


def run(code, *path):
    """Run `code` in a fresh interpreter, `path` in front of where it looks for modules."""
    environment = dict(
        os.environ,
        PYTHONPATH=os.pathsep.join(map(str, (*path, ROOT))),
        OMP_NUM_THREADS="1",
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def ok(code, *path):
    result = run(code, *path)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_importing_mmcv_ops_loads_neither_torch_nor_mmcv():
    ok("import sys, mmcv_ops; mmcv_ops.install(); assert not {'torch', 'torchvision', 'mmcv'} & set(sys.modules)")


def test_mmdet_and_mmseg_models_import_with_their_operators():
    ok(
        "import mmcv_ops; mmcv_ops.install()\n"
        "import mmdet.models, mmseg.models\n"
        "from mmdet.models.losses import focal_loss as det\n"
        "from mmseg.models.losses import focal_loss as seg\n"
        "from mmseg.models.decode_heads import point_head\n"
        "import mmcv.ops\n"
        "assert det.sigmoid_focal_loss and det._sigmoid_focal_loss is mmcv.ops.sigmoid_focal_loss\n"
        "assert seg._sigmoid_focal_loss is mmcv.ops.sigmoid_focal_loss\n"
        "assert point_head.point_sample is mmcv.ops.point_sample\n"
    )


def test_installing_twice_adds_one_finder_at_the_end():
    ok(
        "import sys, mmcv_ops\n"
        "before = list(sys.meta_path)\n"
        "mmcv_ops.install(); mmcv_ops.install()\n"
        "assert sys.meta_path[:-1] == before\n"
        "import mmcv._ext, importlib.util\n"
        "assert importlib.util.find_spec('mmcv._ext').origin == 'mmcv_ops'\n"
        "mmcv_ops.install()\n"
        "assert len(sys.meta_path) == len(before) + 1\n"
    )


def with_extension(tmp_path, text):
    """A folder that extends the package mmcv with an `_ext` of its own."""
    (tmp_path / "_ext.py").write_text(text)
    return (
        "import mmcv, mmcv_ops\n"
        f"mmcv.__path__.append({str(tmp_path)!r})\n"
        "mmcv_ops.install()\n"
    )  # fmt: skip


def test_a_compiled_extension_wins(tmp_path):
    start = with_extension(
        tmp_path,
        "compiled = True\ndef __getattr__(name): return lambda *a, **k: 'compiled ' + name\n",
    )
    ok(start + "from mmcv.ops.nms import ext_module as ext\nassert ext.compiled\nassert ext.nms() == 'compiled nms'")


def test_a_broken_compiled_extension_still_raises(tmp_path):
    start = with_extension(tmp_path, "raise ImportError('undefined symbol: broken')\n")
    result = run(start + "import mmcv.ops")
    assert result.returncode != 0 and "undefined symbol: broken" in result.stderr


def test_installing_too_late_is_said_in_one_line():
    result = run(
        "import sys, types\nsys.modules['mmseg.models'] = types.ModuleType('x')\nimport mmcv_ops; mmcv_ops.install()"
    )
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: mmcv_ops.install() came too late: mmseg.models was already imported")


def test_every_module_of_mmcv_ops_imports():
    mmcv_ops.install()
    package = importlib.import_module("mmcv.ops")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"mmcv.ops.{module.name}")
    assert package.get_compiling_cuda_version() == "not available"


@pytest.mark.parametrize("name", ["nms_rotated", "box_iou_rotated", "knn_forward", "upfirdn2d"])
def test_an_unbacked_operator_names_itself_and_the_way_out(name):
    mmcv_ops.install()
    extension = importlib.import_module("mmcv._ext")
    with pytest.raises(NotImplementedError, match=f"{name}.*compiled"):
        getattr(extension, name)(1, a=2)
    assert getattr(extension, name).__name__ == name


def test_private_names_do_not_exist():
    mmcv_ops.install()
    assert not hasattr(importlib.import_module("mmcv._ext"), "__wrapped__")

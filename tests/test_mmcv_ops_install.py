"""mmcv.ops, mmdet and mmseg import without a compiler, in any order, and a compiled mmcv wins.

An installation puts the operators in place when Python starts; `mmcv_ops.install()` does so without an installation.
"""

import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from ziggurat import mmcv_ops

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def at_start(request, monkeypatch):
    """The tests of `install()` are about an interpreter that started without it."""
    if "start" not in request.node.name:
        monkeypatch.setenv("ZIGGURAT_NO_MMCV_OPS", "1")


def run(code):
    """Run `code` in a fresh interpreter."""
    environment = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def ok(code):
    result = run(code)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_start_up_loads_neither_torch_nor_mmcv():
    ok("import sys; assert 'ziggurat.mmcv_ops' in sys.modules and not {'torch', 'mmcv', 'mmengine'} & set(sys.modules)")


@pytest.mark.parametrize("imports", ["mmdet.datasets, mmdet.apis, mmdet.models, detection", "mmseg.apis, segmentation"])
def test_started_with_operators_any_import_comes_first(imports):
    """Without a word of ours before it; a detector's operators are bound, not None."""
    ok(
        f"import {imports}, mmcv.ops, torch\n"
        "if 'mmdet' in globals():\n"
        "    from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor\n"
        "    layer = dict(type='RoIAlign', output_size=2, sampling_ratio=0)\n"
        "    extract = SingleRoIExtractor(roi_layer=layer, out_channels=1, featmap_strides=[1])\n"
        "    box = torch.tensor([[0., 1, 1, 3, 3]])\n"
        "    assert (extract([torch.ones(1, 1, 8, 8)], box) == 1).all()\n"
        "box = torch.tensor([[0., 0, 4, 4], [0, 0, 4, 5]])\n"
        "assert mmcv.ops.nms(box, torch.tensor([1., 2]), 0.5)[1].tolist() == [1]\n"
    )


@pytest.mark.parametrize(("value", "there"), [("1", False), ("0", True), ("", True)])
def test_start_up_can_be_turned_off(value, there, monkeypatch):
    monkeypatch.setenv("ZIGGURAT_NO_MMCV_OPS", value)
    ok(f"import importlib.util; assert (importlib.util.find_spec('mmcv._ext') is not None) == {there}")


@pytest.fixture(scope="module", params=["build_wheel", "build_editable"])
def installed(request, tmp_path_factory):
    """A folder with what `pip install .` (or `-e .`) puts into site-packages, and the project that it came from."""
    project, site = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("site")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, project)
    (project / "backbones").mkdir()
    shutil.copy(ROOT / "backbones/version.py", project / "backbones")
    shutil.copytree(ROOT / "ziggurat", project / "ziggurat", ignore=shutil.ignore_patterns("__pycache__"))
    code = f"from setuptools import build_meta; build_meta.{request.param}({str(site)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=project, check=True, capture_output=True)
    (wheel,) = site.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(site)
    wheel.unlink()
    return site, project


def test_start_up_comes_with_every_kind_of_installation(installed):
    """Python is started without its site-packages; these are added afterwards, without the start-up files in them."""
    site, project = installed
    start = f"import site, sys; site.addsitedir({str(site)!r}); sys.path.append({sysconfig.get_path('purelib')!r})\n"

    def python(code):
        command = [sys.executable, "-S", "-c", start + code]
        return subprocess.run(command, cwd=site, env={"PATH": ""}, capture_output=True, text=True)

    used = python("import mmcv.ops; from ziggurat import mmcv_ops; assert mmcv.ops.nms; print(mmcv_ops.__file__)")
    assert used.returncode == 0, used.stderr
    assert {site, project} & set(Path(used.stdout).parents)
    shutil.move(project / "ziggurat", project / "gone")  # an editable installation whose folder went
    shutil.rmtree(site / "ziggurat", ignore_errors=True)
    gone = python("import ziggurat.mmcv_ops")
    assert gone.stderr.endswith("No module named 'ziggurat'\n") and gone.stderr.count("Error") == 1


def test_importing_mmcv_ops_loads_neither_torch_nor_mmcv():
    ok(
        "import sys; from ziggurat import mmcv_ops; mmcv_ops.install()\n"
        "assert not {'torch', 'torchvision', 'mmcv'} & set(sys.modules)"
    )


def test_mmdet_and_mmseg_models_import_with_their_operators():
    ok(
        "from ziggurat import mmcv_ops; mmcv_ops.install()\n"
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
        "import sys; from ziggurat import mmcv_ops\n"
        "before = list(sys.meta_path)\n"
        "mmcv_ops.install(); mmcv_ops.install()\n"
        "assert sys.meta_path[:-1] == before\n"
        "import mmcv._ext, importlib.util\n"
        "assert importlib.util.find_spec('mmcv._ext').origin == 'ziggurat.mmcv_ops'\n"
        "mmcv_ops.install()\n"
        "assert len(sys.meta_path) == len(before) + 1\n"
    )


def with_extension(tmp_path, text):
    """A folder that extends the package mmcv with an `_ext` of its own."""
    (tmp_path / "_ext.py").write_text(text)
    return (
        "import mmcv; from ziggurat import mmcv_ops\n"
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
        "import sys, types\nsys.modules['mmseg.models'] = types.ModuleType('x')\n"
        "from ziggurat import mmcv_ops; mmcv_ops.install()"
    )
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ziggurat.mmcv_ops.install() came too late: mmseg.models was already imported")


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

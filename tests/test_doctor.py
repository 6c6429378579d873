"""``ziggurat doctor``: the facts of an environment, and each known cause of trouble with its cure."""

import json
import locale
import resource
from collections import namedtuple
from importlib import metadata

import doctor as tool
import pytest
import torch
from helpers import run

from backbones.version import __version__
from ziggurat.engine import doctor

Disk = namedtuple("Disk", "total used free")


def found(id):
    """The finding of a kind, of which there is one."""
    (one,) = [one for one in doctor.findings() if one.id == id]
    assert one.cure and "\n" not in one.message + one.cure
    return one


def other_versions(monkeypatch, **versions):
    real = doctor.version_of
    monkeypatch.setattr(doctor, "version_of", lambda name: versions.get(name.replace("-", "_"), real(name)))


def test_nothing_is_wrong_here_but_what_the_machine_lacks(monkeypatch, capsys):
    ids = {one.id for one in doctor.findings()}
    assert ids <= {"shared-memory-small", "open-files-few", "locale-not-utf8", "gpu-unused"}
    status, out, _ = run(tool, [], monkeypatch, capsys)
    assert status == (1 if ids else 0)
    facts = dict(line.split("  ", 1) for line in out.split("\n\n")[0].splitlines())
    assert facts["torch"].strip() == metadata.version("torch") and __version__ in facts["ziggurat"]


def test_json_holds_facts_and_findings(monkeypatch, capsys):
    monkeypatch.setattr(torch, "__version__", "2.9.1")
    status, out, _ = run(tool, ["--json"], monkeypatch, capsys)
    content = json.loads(out)
    assert status == 2 and content["facts"].keys() >= {"torch", "gpus", "mmcv's operators"}
    assert {one["id"] for one in content["findings"]} >= {"torch-old", "torchvision-mismatch"}


def test_an_old_torch_can_run_code(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.9.1+cu128")
    assert found("torch-old").severity == "unusable" and "2.9.1+cu128" in found("torch-old").message


@pytest.mark.parametrize(
    ("requires", "version", "fits"),
    [
        ("torch==2.13.0", "2.13.0+cpu", True),
        ("torch==2.13.0", "2.14.1+cpu", False),
        ("torch (>=2.14.0)", "2.14.1+cu130", True),
        ("torch>=2.14", "2.13.1", False),
        ("torchdata>=9", "2.13.1", True),
    ],
)
def test_torchvision_belongs_to_one_torch(monkeypatch, requires, version, fits):
    monkeypatch.setattr(metadata, "requires", lambda name: ["numpy", requires])
    monkeypatch.setattr(torch, "__version__", version)
    ids = {one.id for one in doctor.findings()}
    assert ("torchvision-mismatch" in ids) != fits
    assert fits or version in found("torchvision-mismatch").message


def test_two_opencvs_overwrite_each_other(monkeypatch):
    other_versions(monkeypatch, opencv_python="4.12.0.88")
    assert "opencv-python, opencv-python-headless" in found("opencv-twice").message


def test_opencv_5_is_too_new(monkeypatch):
    other_versions(monkeypatch, opencv_python_headless="5.0.0.93")
    assert "opencv-python-headless<5" in found("opencv-new").cure


def test_a_mix_of_mm_packages_is_found(monkeypatch):
    message = "installed together: onedl-mmcv, mmcv-full"

    def refuse():
        raise doctor.UserError(message)

    monkeypatch.setattr(doctor.installed, "check", refuse)
    (one,) = [one for one in doctor.findings() if one.id == "packages-mixed"]
    assert one.message == message and one.severity == "unusable"


def test_a_package_of_the_same_name_elsewhere_is_found(monkeypatch, tmp_path):
    (tmp_path / "detection").mkdir()
    (tmp_path / "detection/__init__.py").touch()
    monkeypatch.delitem(doctor.sys.modules, "detection", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert str(tmp_path / "detection") in found("package-hidden").message


def test_a_library_of_the_same_name_elsewhere_is_found(monkeypatch, tmp_path):
    (tmp_path / "mmdet").mkdir()
    (tmp_path / "mmdet/__init__.py").touch()
    for name in [name for name in doctor.sys.modules if name.split(".")[0] == "mmdet"]:
        monkeypatch.delitem(doctor.sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    one = found("package-hidden")
    assert str(tmp_path / "mmdet") in one.message and str(tmp_path) in one.cure


def test_absent_operators_are_found(monkeypatch):
    monkeypatch.setattr(doctor, "operators", lambda: "none: undefined symbol: _ZN2at")
    assert "undefined symbol" in found("operators-absent").message


def test_a_driver_without_a_gpu_is_found(monkeypatch, tmp_path):
    (tmp_path / "version").touch()
    monkeypatch.setattr(doctor, "DRIVER", tmp_path / "version")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "built without CUDA" in found("gpu-unused").message


@pytest.mark.parametrize(("capability", "is_new"), [((9, 0), False), ((8, 9), False), ((12, 1), True)])
def test_a_gpu_newer_than_torch_is_found(monkeypatch, capability, is_new):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80", "sm_90a", "compute_90"])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda number: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "Some GPU")
    assert ("gpu-too-new" in {one.id for one in doctor.findings()}) == is_new


def test_limits_of_the_system_are_found(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: Disk(64 << 20, 0, 64 << 20))
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 4096))
    monkeypatch.setattr(locale, "getpreferredencoding", lambda do_setlocale: "ANSI_X3.4-1968")
    assert "64 MiB" in found("shared-memory-small").message
    assert "256 files" in found("open-files-few").message
    assert "ANSI_X3.4-1968" in found("locale-not-utf8").message

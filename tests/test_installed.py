"""The wheel, installed beside the locked environment, does outside the repository what the tools do inside."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

from ziggurat.command import COMMANDS, as_called

SOURCES = ("backbones", "classification", "detection", "segmentation", "ziggurat", "tools")
FILES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "docs/published.json")
NAME = "van_b0_digits"
SHORT = ["train_cfg.max_epochs=1"]
SHORT += [f"{split}_dataloader.num_workers=0" for split in ("train", "val", "test")]
SHORT += [f"{split}_dataloader.persistent_workers=False" for split in ("train", "val", "test")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of a copy of the repository, as the build leaves files beside its sources."""
    project, out = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    (project / "docs").mkdir()
    for name in FILES:
        shutil.copy(ROOT / name, project / name)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(out)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=project, check=True, capture_output=True)
    (file,) = out.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """A folder like site-packages that has the wheel, and ``bin/ziggurat``."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(folder), wheel]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def ziggurat(site, tmp_path_factory):
    """Runs the installed command, by default in an empty folder."""
    empty = tmp_path_factory.mktemp("empty")

    def run(*arguments, cwd=empty, status=0):
        env = os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
        command = [sys.executable, str(site / "bin/ziggurat"), *map(str, arguments)]
        done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
        assert done.returncode == status, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout if status == 0 else done.stderr

    return run


def test_a_wheel_adds_only_names_of_its_own(wheel):
    names = {Path(name).parts[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith((".dist-info", ".pth"))} == set(SOURCES) - {"tools"}


def test_a_wheel_has_every_tool_and_config(site):
    for folder in ("tools", *(f"{task}/configs" for task in ("classification", "detection", "segmentation"))):
        inside, installed = (root / folder for root in (ROOT, site / "ziggurat"))
        found = sorted(path.relative_to(inside) for path in inside.rglob("*.py"))
        if folder == "tools":  # without those that make this repository's pages and figures
            found = [path for path in found if path.parts[0] not in ("bench", "docs", "heads", "reliability", "setup")]
        assert found and all((installed / path).read_bytes() == (inside / path).read_bytes() for path in found)


def test_a_wheel_has_the_files_of_pages(site):
    files = [
        path for path in (ROOT / "ziggurat").rglob("*.*") if path.suffix in (".html", ".css", ".js", ".svg", ".jinja")
    ]
    assert len(files) > 5 and all((site / path.relative_to(ROOT)).read_bytes() == path.read_bytes() for path in files)


HELPS = """
import contextlib, io, json, runpy, sys
from ziggurat import command
from ziggurat.engine import cli
helps = {}
for name in command.COMMANDS:
    cli.CALLED = f"ziggurat {name}"
    sys.argv = [str(command.tool_of(name)), "--help"]
    sys.path.insert(0, str(command.tool_of(name).parent))
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        runpy.run_path(sys.argv[0], run_name="__main__")
    helps[name] = out.getvalue()
json.dump(helps, sys.stdout)
"""


def test_each_command_has_help_under_its_own_name(site):
    """In one process, so that PyTorch is imported once."""
    env = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, "-c", HELPS], env=env, capture_output=True, text=True)
    helps = json.loads(done.stdout)
    assert helps.keys() == COMMANDS.keys()
    for name, text in helps.items():
        assert f"ziggurat {name}" in text and "tools/" not in text.replace("tools/launch/launch.py", ""), text


def test_help_and_mistakes_import_no_torch(site):
    code = "import sys; from ziggurat import command; sys.argv = ['ziggurat', {!r}]\ntry: command.main()\n"
    code += "except SystemExit as stop: assert stop.code == 2\nassert not {{'torch', 'mmengine'}} & set(sys.modules)"
    for argument in ("--help", "trian", "--version"):
        env = os.environ | {"PYTHONPATH": str(site)}
        done = subprocess.run([sys.executable, "-c", code.format(argument)], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (ROOT / "backbones/version.py").read_text().split('"')[-2]


def test_a_command_is_called_by_its_name_and_an_unknown_one_is_one_line(ziggurat):
    assert ziggurat("status", "--help").startswith("usage: ziggurat status ")
    assert ziggurat("help", "status") == ziggurat("status", "--help")
    assert ziggurat("trian", status=2) == "error: unknown command 'trian'; nearest: train (see ziggurat --help)\n"


def test_a_program_of_the_users_own_name_stays_the_users(ziggurat, site, tmp_path):
    """As of torchvision's references, whose training has an engine.py."""
    for name in ("engine", "utils", "tools", "configs", "mmcv_ops"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    code = "import backbones, classification, detection, segmentation, ziggurat.engine; ziggurat.engine.Predictor"
    env = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{site}"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_configs_are_found_by_name_and_by_their_path_in_the_repository(ziggurat, site):
    (path,) = ziggurat("configs", "retinanet_van_b0*1x_coco", "--paths").split()
    assert Path(path).is_relative_to(site / "ziggurat/detection/configs")
    by_name = ziggurat("print-config", Path(path).stem).splitlines()
    by_path = ziggurat("print-config", f"detection/configs/van/{Path(path).name}").splitlines()
    assert by_name[1:] == by_path[1:] and "type='RetinaNet'" in "".join(by_name)


@pytest.fixture(scope="module")
def trained(ziggurat, tmp_path_factory):
    """A user's folder with data and a classifier that was trained there."""
    folder = tmp_path_factory.mktemp("user")
    few = ["--num-train=2", "--num-val=2", "--digits-train=100", "--digits-val=50"]
    ziggurat("demo-data", "--out", "data", *few, cwd=folder)
    ziggurat("train", NAME, "--device", "cpu", "--cfg-options", "data_root=data/digits", *SHORT, cwd=folder)
    return folder


def test_a_user_trains_tests_and_predicts_outside_the_repository(ziggurat, trained):
    checkpoint = f"work_dirs/{NAME}/epoch_1.pth"
    ziggurat("test", NAME, checkpoint, "--out", "metrics.json", "--cfg-options", "data_root=data/digits", cwd=trained)
    assert json.loads((trained / "metrics.json").read_text())
    (image, *_) = sorted((trained / "data/digits/val").rglob("*.png"))
    ziggurat("predict", checkpoint, image, "--out", "by_checkpoint", "--format", "json", cwd=trained)
    ziggurat("predict", NAME, checkpoint, image, "--out", "by_name", "--format", "json", cwd=trained)
    first, second = ((trained / place / "predictions.jsonl").read_text() for place in ("by_checkpoint", "by_name"))
    assert first == second
    assert "good" in ziggurat("verify", checkpoint, cwd=trained)
    assert "epoch" in ziggurat("status", f"work_dirs/{NAME}", cwd=trained)


def test_a_user_extracts_features_outside_the_repository(ziggurat, trained):
    (image, *_) = sorted((trained / "data/photographs").iterdir())
    ziggurat("features", "van_b0", image, "--pretrained", f"work_dirs/{NAME}/epoch_1.pth", "--out", "maps", cwd=trained)
    assert len([*(trained / "maps").glob("*.npz")]) == 1


def test_launch_scripts_come_with_the_package(site, trained):
    script = site / "ziggurat/classification/dist_train.sh"
    env = os.environ | {"PYTHONPATH": str(site), "PYTHON": sys.executable}
    command = ["bash", str(script), "nothing_of_the_kind", "1"]
    done = subprocess.run(command, cwd=trained, env=env, capture_output=True, text=True)
    assert done.returncode == 2 and "no such config: nothing_of_the_kind" in done.stderr


def test_processes_are_launched_by_the_name_of_a_command(ziggurat, trained):
    """The error of the tool, in both processes, and no traceback of the launcher."""
    said = ziggurat("launch", 2, "train", "nothing_of_the_kind", cwd=trained, status=2)
    assert "no such config: nothing_of_the_kind; ziggurat configs lists" in said and "Traceback" not in said
    assert "(see ziggurat train --help)" in ziggurat("launch", 1, "train", cwd=trained, status=2)
    for given in (["x"], ["0", "train"], ["2", "trian"]):
        said = ziggurat("launch", *given, status=2)
        assert said.startswith("error: launch ") and said.count("\n") == 1


def test_the_names_of_commands_leave_second_columns_in_their_place():
    lines = ["python tools/predict.py X      first", "                               second"]
    assert as_called("\n".join(lines)).split("\n") == ["ziggurat predict X             first", lines[1]]
    assert as_called("see tools/info.py, then tools/train.py --help") == "see tools/info.py, then ziggurat train --help"

"""The set-up says why it cannot run, and works only if something changed.

The lock is complete and exact, and names no host. A mix of OpenMMLab's packages and their forks is named.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from backbones import UserError
from tools.setup import setup_env
from ziggurat.engine.installed import PROVIDERS, check

ROOT = Path(__file__).resolve().parent.parent
LOCK = [Requirement(line) for line in (ROOT / "requirements.lock").read_text().splitlines() if line[0] != "#"]
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]

# Answers as a Python of another version, or one without a module, would.
FAKE_PYTHON = """#!{python}
import os, sys
code = sys.argv[sys.argv.index("-c") + 1] if "-c" in sys.argv else "raise SystemExit(99)"
sys.version_info = {version}
sys.modules.update(dict.fromkeys({lacking}))
exec(code)
"""


def find_python(tmp_path, **pythons):
    """Runs setup_env.sh where PATH holds these fake Pythons (name -> version, lacking modules) and a few commands."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for command in ("sh", "dirname"):
        (folder / command).symlink_to(shutil.which(command))
    for name, (number, lacking) in pythons.items():
        fake = folder / name.replace("_", ".")
        fake.write_text(FAKE_PYTHON.format(python=sys.executable, version=number, lacking=lacking))
        fake.chmod(0o755)
    command = [str(folder / "sh"), str(ROOT / "tools/setup/setup_env.sh")]
    return subprocess.run(command, env={"PATH": str(folder)}, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("pythons", "message"),
    [
        ({}, "python3 was not found; Python 3.10 to 3.13 is needed"),
        ({"python3": ((3, 9, 2), [])}, "python3 is Python 3.9; Python 3.10 to 3.13 is needed"),
        ({"python3": ((3, 14, 0), [])}, "python3 is Python 3.14; Python 3.10 to 3.13 is needed"),
        ({"python3": ((3, 11, 2), ["ensurepip"])}, "python3 has no venv module; install it, on Debian and Ubuntu with: "
         "apt install python3.11-venv"),
    ],
)  # fmt: skip
def test_an_unusable_python_gets_one_sentence(pythons, message, tmp_path):
    result = find_python(tmp_path, **pythons)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {message}") and result.stderr.count("\n") == 1


@pytest.mark.parametrize("first", [((3, 9, 2), []), ((3, 11, 2), ["ensurepip"])])
def test_a_usable_python_beside_an_unusable_one_is_found(first, tmp_path):
    result = find_python(tmp_path, python3=first, python3_12=((3, 12, 1), []))
    assert result.returncode == 99, result.stderr  # the usable one was started with setup_env.py


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder that was set up, seen by setup_env; ``build`` only notes how it is called."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for name in ("requirements.lock", "pyproject.toml", "setup.py", ".venv/bin/python"):
        (tmp_path / name).write_text(name)
    monkeypatch.delenv("PYTHON", raising=False)
    monkeypatch.setattr(setup_env, "ROOT", tmp_path)
    for name, place in (("VENV", ".venv"), ("PYTHON", ".venv/bin/python"), ("STAMP", ".venv/built-from.json")):
        monkeypatch.setattr(setup_env, name, tmp_path / place)
    monkeypatch.setattr(setup_env, "LOG", tmp_path / ".venv/setup.log")
    setup_env.STAMP.write_text(json.dumps(setup_env.wanted()))
    return tmp_path


def builds(monkeypatch):
    calls = []
    monkeypatch.setattr(setup_env, "build", lambda anew: calls.append("anew" if anew else "project"))
    setup_env.main()
    return calls


def test_nothing_is_built_where_nothing_changed(project, monkeypatch):
    (project / "pyproject.toml").touch()
    assert builds(monkeypatch) == []


@pytest.mark.parametrize(
    ("change", "built"),
    [
        (lambda root: (root / "requirements.lock").write_text("torch==3"), "anew"),
        (lambda root: (root / "pyproject.toml").write_text("[project]"), "project"),
        (lambda root: (root / "setup.py").write_text("setup()"), "project"),
        (lambda root: (root / ".venv/built-from.json").unlink(), "anew"),  # interrupted half-way
        (lambda root: (root / ".venv/built-from.json").write_text('{"py'), "anew"),
        (lambda root: (root / ".venv/bin/python").unlink(), "anew"),  # its Python was removed from the system
        (lambda root: shutil.rmtree(root / ".venv"), "anew"),
    ],
)
def test_what_changed_is_built(change, built, project, monkeypatch):
    change(project)
    assert builds(monkeypatch) == [built]


def test_another_python_builds_anew_only_when_asked_for(project, monkeypatch):
    monkeypatch.setattr(setup_env.platform, "python_version", lambda: "3.13.9")
    assert builds(monkeypatch) == []
    monkeypatch.setenv("PYTHON", "python3.13")
    assert builds(monkeypatch) == ["anew"]


@pytest.mark.parametrize("kind", ["link", "file"])
def test_another_projects_environment_and_a_file_are_left_alone(kind, project, monkeypatch):
    other = setup_env.VENV.rename(project / "other")
    setup_env.VENV.symlink_to(other) if kind == "link" else setup_env.VENV.touch()
    (project / "requirements.lock").write_text("torch==3")
    with pytest.raises(SystemExit, match=rf"^error: \S+/\.venv is a {kind}; allowed: a folder, or nothing"):
        builds(monkeypatch)
    assert (other / "built-from.json").exists()


def test_a_failing_step_shows_its_errors_and_leaves_no_stamp(project, monkeypatch, capfd):
    def pip(*arguments):
        return sys.executable, "-c", "print('WARNING: noise'); print('ERROR: no route to host'); raise SystemExit(1)"

    monkeypatch.setattr(setup_env, "PIP", pip())
    with pytest.raises(SystemExit) as stop:
        setup_env.build(anew=False)
    assert "set-up step 3 failed" in str(stop.value) and str(setup_env.LOG) in str(stop.value)
    shown = capfd.readouterr()
    assert "ERROR: no route to host" in shown.err and "noise" not in shown.err
    assert "[3/4] installing ziggurat-vision itself" in shown.out
    assert not setup_env.STAMP.exists()


def test_too_little_disk_is_named_before_anything_is_downloaded(project, monkeypatch):
    setup_env.STAMP.unlink()
    monkeypatch.setattr(setup_env.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, 3_000_000_000))
    monkeypatch.setattr(setup_env, "step", lambda *a: pytest.fail("a step was started"))
    with pytest.raises(SystemExit, match=r"needs 8 GB .* 3.0 GB are free"):
        setup_env.build(anew=True)


def applies(requirement, python, extra=""):
    environment = {"python_version": python, "python_full_version": f"{python}.5", "extra": extra}
    return requirement.marker is None or requirement.marker.evaluate(environment)


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_gives_every_package_one_exact_version(python):
    names = [canonicalize_name(r.name) for r in LOCK if applies(r, python)]
    assert len(names) == len(set(names))
    assert {"torch", "torchvision", "onedl-mmcv", "timm", "pytest", "setuptools"} <= set(names)
    assert all(re.fullmatch(r"==[\w.]+", str(r.specifier)) for r in LOCK)


def test_the_lock_names_no_registry():
    text = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"https?:|--index|--find-links|@ ", text)


def test_the_lock_brings_opencv_without_a_window_system_only():
    names = {canonicalize_name(r.name) for r in LOCK}
    assert "opencv-python-headless" in names and "opencv-python" not in names


def test_the_lock_satisfies_every_package_in_it():
    """What each locked and installed package requires is locked, in a version that fits."""
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    locked = {canonicalize_name(r.name): str(r.specifier)[2:] for r in LOCK if applies(r, python)}
    wanted = [("ziggurat-vision", Requirement("ziggurat-vision[dev]"))] + [(n, Requirement(n)) for n in locked]
    problems, seen = [], set()
    while wanted:
        asker, requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if name == "opencv-python":
            continue
        if name != "ziggurat-vision" and not requirement.specifier.contains(locked.get(name, "0"), prereleases=True):
            problems.append(f"{asker} wants {requirement}, locked: {locked.get(name)}")
        for extra in requirement.extras | {""}:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                needs = requires(name) or []
            except PackageNotFoundError:
                continue
            found = [Requirement(need) for need in needs]
            wanted += [
                (name, r) for r in found if applies(r, python, extra) and (not extra or "extra" in str(r.marker))
            ]
    assert problems == []


def test_this_environment_has_the_locked_versions():
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    other = {}
    for requirement in LOCK:
        if applies(requirement, python) and version(requirement.name) != str(requirement.specifier)[2:].split("+")[0]:
            other[requirement.name] = version(requirement.name)
    assert other == {}


def test_make_without_a_target_lists_the_targets():
    result = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, timeout=60, env=os.environ)
    assert result.returncode == 0
    for target in re.search(r"\.PHONY: help (.*)", (ROOT / "Makefile").read_text()).group(1).split():
        assert f"make {target} " in result.stdout


# A mix of the two OpenMMLab lines


@pytest.mark.parametrize(
    "installed",
    [
        {"onedl-mmengine", "mmengine"},
        {"onedl-mmcv", "onedl-mmengine", "mmcv-lite"},
        {"onedl-mmengine", "mmdet"},
        {"onedl-mmsegmentation", "mmsegmentation", "torch"},
        {"mmcv", "mmcv-lite"},
    ],
)
def test_a_mix_is_named(installed):
    with pytest.raises(UserError) as error:
        check(installed)
    named = installed - {"torch"}
    assert all(name in str(error.value) for name in named) and "torch" not in str(error.value)
    assert str(error.value).count("\n") == 0 and "pip uninstall" in str(error.value)


@pytest.mark.parametrize("line", [0, 1])
def test_one_line_alone_is_fine(line):
    check({names[line] for names in PROVIDERS.values()} | {"torch"})
    check(set())


def test_the_installed_distributions_are_no_mix():
    check()

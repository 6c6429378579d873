"""`make release`: the wheel and the source archive are whole, and the version is described wherever it must be."""

import re
import tarfile
import zipfile

import pytest
import release
from conftest import ROOT
from helpers import run

from backbones.version import __version__

WORKFLOW = (ROOT / ".github/workflows/ci.yml").read_text()


def test_a_release_is_built_and_checked(tmp_path, monkeypatch, capsys):
    status, out, err = run(release, ["--out", tmp_path / "dist"], monkeypatch, capsys)
    assert status == 0 and out.count("MB") == 2, err
    (wheel,), (archive,) = ((tmp_path / "dist").glob(pattern) for pattern in ("*.whl", "*.tar.gz"))
    assert __version__ in wheel.name and __version__ in archive.name
    with tarfile.open(archive) as content:
        assert any(name.endswith("/tools/train.py") for name in content.getnames())
    assert "ziggurat/tools/train.py" in zipfile.ZipFile(wheel).namelist()


@pytest.mark.parametrize(("version", "message"), [("9.9.9", r"CHANGELOG.md has no section '## 9.9.9'"), ("0.1", "0.1")])
def test_a_version_without_a_description_is_one_line(version, message, monkeypatch, capsys):
    monkeypatch.setattr(release, "__version__", version)
    status, _, err = run(release, [], monkeypatch, capsys)
    assert status == 2 and re.search(message, err) and err.count("\n") == 1


def test_an_archive_that_lacks_files_is_no_release(tmp_path):
    for name, files in (("whole", ["a.py", "b.py"]), ("part", ["a.py"]), ("other", ["a.py", "b.py"])):
        with zipfile.ZipFile(tmp_path / name, "w") as content:
            for file in files:
                content.writestr(file, "other" if name == "other" and file == "b.py" else "text")
    release.check_same(tmp_path / "whole", tmp_path / "whole")
    for name in ("part", "other"):
        with pytest.raises(release.UserError, match=r"builds another wheel: b.py \(1 files in all\)"):
            release.check_same(tmp_path / "whole", tmp_path / name)


def test_the_workflow_calls_targets_of_make_on_every_python():
    targets = re.findall(r"run: make ([\w-]+)", WORKFLOW)
    makefile = (ROOT / "Makefile").read_text()
    assert targets and all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    oldest, newest = re.search(
        r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (ROOT / "pyproject.toml").read_text()
    ).groups()
    assert re.findall(r'"3\.(\d+)"', WORKFLOW.split("matrix:")[1].split("steps:")[0]) == [
        str(minor) for minor in range(int(oldest), int(newest))
    ]


def test_ruff_is_the_same_everywhere():
    (hook,) = re.findall(r"rev: v(\S+)", (ROOT / ".pre-commit-config.yaml").read_text())
    assert f"\nruff=={hook}\n" in (ROOT / "requirements.lock").read_text()

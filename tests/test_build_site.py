"""`make site`: every page of the repository is in it, and every link of a page leads somewhere."""

import importlib
import importlib.util

import build_site
import pytest
import yaml
from conftest import ROOT
from helpers import run


def entries(nav):
    for entry in nav:
        for value in entry.values():
            yield from entries(value) if isinstance(value, list) else [value]


@pytest.fixture
def pages(tmp_path):
    build_site.write_pages(tmp_path / "pages")
    return tmp_path / "pages"


def test_every_page_is_in_the_navigation(pages):
    found = {str(path.relative_to(pages)) for path in pages.rglob("*.md")}
    assert found == set(entries(yaml.safe_load(build_site.SETTINGS.read_text())["nav"]))


def test_links_of_the_site_lead_to_its_files(pages):
    links = 0
    for page in pages.rglob("*.md"):
        for _, link, _ in build_site.LINK.findall(page.read_text()):
            if "://" not in link:
                links += 1
                assert (page.parent / link).exists(), f"{page}: {link}"
    assert links > 50


@pytest.mark.parametrize("name", [name for names in build_site.REFERENCE.values() for name in names])
def test_what_the_reference_names_is_there_and_described(name):
    """Where the module's own framework is installed."""
    module, _, last = name.rpartition(".")
    if name in ("ziggurat.engine.results", "backbones.show"):
        assert importlib.import_module(name).__doc__
        return
    try:
        found = getattr(importlib.import_module(module), last)
    except ModuleNotFoundError as error:
        assert error.name in ("transformers", "segmentation_models_pytorch", "supervision")
        pytest.skip(str(error))
    assert found.__doc__


def test_the_site_is_built_where_mkdocs_is_installed(tmp_path, monkeypatch, capsys):
    status, _, err = run(build_site, ["--out", tmp_path / "site"], monkeypatch, capsys)
    if importlib.util.find_spec("mkdocs") is None:
        assert status == 2 and err.startswith("error: mkdocs is not installed; make site installs it")
        return
    assert status == 0, err
    page = (tmp_path / "site/reference/networks/index.html").read_text()
    assert "create_backbone" in page and ":class:" not in page and 'src="https://' not in page


def test_a_lock_for_the_site_leaves_the_other_alone():
    names = [[line.split("==")[0] for line in (ROOT / file).read_text().splitlines() if "==" in line] for file in LOCKS]
    assert not {*names[0]} & {*names[1]} - {"colorama"}  # which the first has for Windows


LOCKS = ("requirements.lock", "requirements-docs.lock")

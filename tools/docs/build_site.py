"""Builds the documentation's site in work_dirs/site: all pages of the repository, and the reference of docstrings.

python tools/docs/build_site.py [--out DIR]

mkdocs-material makes the site (`make site` installs it). Pages keep their places, so links between them stay. A file
that is linked and is no page is copied. A link that leads nowhere is an error. The site loads nothing from elsewhere.
"""

import argparse
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import yaml

from backbones.errors import UserError
from ziggurat.engine.cli import Parser, run_tool
from ziggurat.engine.tasks import TASKS

ROOT = Path(__file__).resolve().parents[2]
SETTINGS, ROLES = ROOT / "docs/mkdocs.yml", ROOT / "tools/docs/roles.py"
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")
HOME = Path("README.md")
# Page of the reference -> what it describes.
REFERENCE = {
    "Networks": [
        "backbones.create_backbone",
        "backbones.list_archs",
        "backbones.PyramidBackbone",
        "backbones.VAN",
        "backbones.HorNet",
        "backbones.PViG",
        "backbones.ViG",
        "backbones.VVT",
        "backbones.SimpleFeaturePyramid",
        "backbones.param_groups",
    ],
    "Weights": ["backbones.load_weights", "backbones.LoadReport", "backbones.list_weights"],
    "Features": ["backbones.FeatureExtractor", "backbones.FeaturePyramid", "backbones.show"],
    "Classifiers": ["classification.create_classifier"],
    "Predictions": ["ziggurat.engine.predictor.Predictor", "ziggurat.engine.results"],
    "Other frameworks": [
        "backbones.timm.TimmModel",
        "backbones.hub.HubBackbone",
        "backbones.transformers.ZigguratConfig",
        "backbones.smp.Encoder",
        "backbones.torchvision.fpn",
        "ziggurat.supervision.detections",
    ],
}


def main() -> None:
    args = parse_args()
    if importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("mkdocstrings") is None:
        raise UserError("mkdocs is not installed; make site installs it, or pip install -r requirements-docs.lock")
    with tempfile.TemporaryDirectory() as folder:
        pages = Path(folder) / "pages"
        settings = yaml.safe_load(SETTINGS.read_text())
        write_pages(pages)
        settings["nav"].append({"Reference": write_reference(pages / "reference")})
        settings["docs_dir"], settings["site_dir"] = str(pages), str(args.out.absolute())
        python = settings["plugins"][1]["mkdocstrings"]["handlers"]["python"]
        python["paths"], python["options"]["extensions"] = [str(ROOT)], [f"{ROLES}:WithoutRoles"]
        (Path(folder) / "mkdocs.yml").write_text(yaml.safe_dump(settings, sort_keys=False))
        command = [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "--quiet",
            "--config-file",
            f"{folder}/mkdocs.yml",
        ]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise UserError(f"the site cannot be built: {last_problem(done.stdout + done.stderr)}")
    print(f"{args.out / 'index.html'}")


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("work_dirs/site"), help="folder to write, replaced (default: work_dirs/site)"
    )
    return parser.parse_args()


def write_pages(folder: Path) -> None:
    """Copies the pages of the repository, and what they link to, into an empty folder."""
    found = (*ROOT.glob("*.md"), *(ROOT / task / "README.md" for task in TASKS), *ROOT.glob("docs/**/*.md"))
    pages = [path.relative_to(ROOT) for path in found]
    for page in pages:
        text = (ROOT / page).read_text()
        for _, link, _ in LINK.findall(text):
            copy_linked(page, link, pages, folder)
        target = folder / ("index.md" if page == HOME else page)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(LINK.sub(partial(in_site, page), text))


def in_site(page: Path, found: re.Match) -> str:
    """A link of a page as the site has it: the README of the root is the site's index."""
    is_home = (ROOT / page).parent.joinpath(found[2]).resolve() == ROOT / HOME
    return found[1] + (found[2].removesuffix("README.md") + "index.md" if is_home else found[2]) + found[3]


def copy_linked(page: Path, link: str, pages: list[Path], folder: Path) -> None:
    """Copies a file of the repository that a page links to, unless the file is a page itself."""
    if "://" in link:
        return
    source = (ROOT / page).parent.joinpath(link).resolve()
    if not source.is_file() or source.relative_to(ROOT) in pages:
        return  # mkdocs names a link that leads nowhere
    target = folder / source.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def write_reference(folder: Path) -> list[dict[str, str]]:
    """Writes a page for each part of the reference; returns their entries for the navigation."""
    folder.mkdir(parents=True)
    entries = []
    for title, names in REFERENCE.items():
        file = f"{title.lower().replace(' ', '_')}.md"
        blocks = "\n\n".join(f"::: {name}" for name in names)
        (folder / file).write_text(f"# {title}\n\n{blocks}\n")
        entries.append({title: f"reference/{file}"})
    return entries


def last_problem(text: str) -> str:
    """The first warning or error of mkdocs, on one line."""
    lines = [line.strip() for line in text.splitlines() if re.search(r"WARNING|ERROR|Error", line)]
    return " ".join((lines or text.strip().splitlines() or ["no message"])[0].split())


if __name__ == "__main__":
    run_tool(main)

"""The pages are true: links and paths exist, options of commands exist, Python runs, tables are generated.

A page's Python blocks run as printed, in one namespace and in order. Instead of a download, the row of the weights
table points to a file made here. So all steps from the name to the loaded network run.
"""

import argparse
import ast
import importlib.util
import json
import re
import shlex
import statistics
import sys
from pathlib import Path

import benchmark_backbones
import frozen_table
import launch
import numpy as np
import pytest
import reliability_page
import results_table
import torch
import weights_table
from helpers import run
from kills import COUNTS, FAULTS
from PIL import Image

import backbones
from backbones.weights import own_meta, save_safely
from backbones.weights.fetch import fetch_first
from classification import create_classifier
from ziggurat import completion
from ziggurat.command import tool_of
from ziggurat.engine.config import load_config
from ziggurat.engine.predicted.formats import FILES
from ziggurat.engine.tasks import task_for

ROOT = Path(__file__).resolve().parent.parent
NOT_OURS = {"work_dirs", "data", "build", "dist"}
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part in NOT_OURS for part in path.relative_to(ROOT).parts)
)
NEW_FILES = {"backbones/ridge.py", "backbones/convert/ridge.py"}  # which docs/add_a_network.md makes
NOT_OURS |= {*FILES}  # of predictions
FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
COMMAND = re.compile(r"(?:[A-Z_]+=\S+ )*(python tools/|ziggurat \w|bash \w+/\w+\.sh|make \w|pip install)")
NAMED_WEIGHTS = re.compile(r"\b[a-z]\w+\.in\d+k\b")


def blocks(page, *languages):
    return [body for language, body in FENCE.findall((ROOT / page).read_text()) if language in languages]


def prose(page):
    return FENCE.sub("", (ROOT / page).read_text())


def commands(page):
    """The command lines of a page, from blocks and from the text; comments and optional brackets are taken off."""
    lines = "\n".join(blocks(page, "", "bash")).replace("\\\n", " ").splitlines()
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in lines] + INLINE.findall(prose(page))
    lines = [line.replace("[", " ").replace("]", " ") if " [-" in line else line for line in lines]
    return [line for line in lines if COMMAND.match(line)]


def is_leaf(block):
    return block.startswith("_base_ = ") and "../_base_" in block


def with_python(*pages):
    return [page for page in pages if blocks(page, "python")]


# --- what a page points to


@pytest.mark.parametrize("page", PAGES)
def test_links_resolve(page):
    for target in LINK.findall(prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (ROOT / page).parent / path if path else ROOT / page
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert anchor in slugs, target


@pytest.mark.parametrize("page", PAGES)
def test_named_files_exist(page):
    """A file or folder in backquotes lies where the page says: from the root, or from the page's own folder."""
    for name in INLINE.findall(prose(page)):
        file = re.fullmatch(r"[\w./-]+(\.(py|sh|md|json|jinja|toml|lock)|/)", name)
        first = name.split("/")[0]
        if not file or first in NOT_OURS or first.isupper() or name in NEW_FILES:
            continue
        assert (ROOT / name).exists() or ((ROOT / page).parent / name).exists(), name


WORDS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs/words.md").read_text().splitlines()
    if line.startswith("|") and not line.startswith(("|-", "| word "))
]


@pytest.mark.parametrize("row", WORDS, ids=[row[0] for row in WORDS])
def test_words_are_used_where_the_page_says(row):
    word, _, file = row
    text = (ROOT / file.strip("`")).read_text().lower()
    assert any(form in text for form in (word, word.replace(" ", "_"), word.replace(" ", "")))


# --- what a page tells the reader to type


class Parsed(Exception):
    """Raised instead of running a tool, once its arguments are parsed."""


def parse(tool, argv, monkeypatch):
    """The arguments of a tool as its parser takes them; without ``argv`` the parser. The tool goes no further."""
    parse_args = argparse.ArgumentParser.parse_args

    def stop(self, *args, **kwargs):
        raise Parsed(self if argv is None else parse_args(self, *args, **kwargs))

    spec = importlib.util.spec_from_file_location(tool.stem, tool)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.syspath_prepend(str(tool.parent))
    spec.loader.exec_module(module)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    monkeypatch.setattr(sys, "argv", [tool.name, *(argv or [])])
    with pytest.raises(Parsed) as parsed:
        module.main()
    return parsed.value.args[0]


def behind_script(script, argv):
    """The tool that a launch script calls, and what is left for it of the script's arguments."""
    how, what = script.stem.split("_")
    if how == "slurm":
        argv = argv[2:]  # PARTITION JOB
    else:
        gpus = 1 if what == "train" else 2
        assert argv[gpus].isdigit() or argv[gpus] == "GPUS", argv
        argv = argv[:gpus] + argv[gpus + 1 :]
    return ROOT / f"tools/{what}.py", argv


@pytest.mark.parametrize(
    ("page", "command"),
    [(page, command) for page in PAGES for command in commands(page) if "ridge" not in command],
)
def test_commands_are_taken(page, command, monkeypatch):
    """Every option exists; every config that is named exists and has the keys that ``--cfg-options`` sets."""
    words = shlex.split(command)
    while re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return
    if words[0] == "pip":
        extras = re.findall(r"\[(\w+)\]", command)
        project = (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1]
        assert all(re.search(rf"^{extra} = ", project, re.MULTILINE) for extra in extras)
        return
    if words[:2] == ["ziggurat", "launch"]:  # GPUS COMMAND ARGUMENTS
        assert words[2].isdigit() and words[3] in launch.PARALLEL
        words = ["ziggurat", *words[3:]]
    if words[:2] in (["ziggurat", "complete"], ["ziggurat", "completion"]):  # which the command does itself
        assert len(words) == 2 or words[2] in completion.SCRIPTS
        return
    if words == ["ziggurat", "--help"]:
        return
    tool, argv = tool_of(words[1]) if words[0] == "ziggurat" else ROOT / words[1], words[2:]
    assert tool.is_file(), tool
    if tool.suffix == ".sh":
        tool, argv = behind_script(tool, argv)
    if tool.name == "launch.py":  # GPUS PROGRAM ARGUMENTS
        assert argv[0].isdigit()
        tool, argv = ROOT / argv[1], argv[2:]
    args = parse(tool, argv, monkeypatch)
    config = getattr(args, "config", None)
    if config and not str(config).isupper() and not str(config).startswith("my_"):  # what a reader puts in
        load_config(config, args.cfg_options)


def usages():
    """(tool, usage) of every command line that the docstring of a tool with a parser shows."""
    for tool in sorted((ROOT / "tools").rglob("*.py")):
        if "Parser(" not in tool.read_text():
            continue
        text = (ast.get_docstring(ast.parse(tool.read_text())) or "").replace("\n    [", " [")
        yield from ((tool, line) for line in text.splitlines() if line.startswith("python tools/"))


@pytest.mark.parametrize(("tool", "usage"), usages(), ids=lambda value: getattr(value, "stem", None))
def test_docstrings_of_tools_show_their_own_options(tool, usage, monkeypatch):
    assert (ROOT / usage.split()[1]) == tool
    option = re.compile(r"--[a-z][\w-]*")
    assert set(option.findall(usage)) <= set(option.findall(parse(tool, None, monkeypatch).format_help()))


# --- what a page shows as Python


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder to work in, with the pictures that the pages name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    for name, height in (("street.jpg", 64), ("cat.png", 96)):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, 64, 3), np.uint8)).save(name)
    fetch_first.cache_clear()
    yield tmp_path
    fetch_first.cache_clear()


def offer_weights(text, folder, monkeypatch):
    """Makes every name of the weights table in ``text`` lead to a file in ``folder``: a classifier's checkpoint."""
    for name in set(NAMED_WEIGHTS.findall(text)):
        path = folder / f"{name}.pth"
        torch.save(create_classifier(name.split(".")[0]).state_dict(), path)
        monkeypatch.setitem(backbones.WEIGHTS, name, backbones.WEIGHTS[name]._replace(urls=(path.as_uri(),)))


def offer_runs(text, folder):
    """Makes every checkpoint of a leaf that ``text`` names: the leaf's network, random, tested at 64x64 pixels."""
    for name, file in set(re.findall(r"work_dirs/(\w+)/(\w+\.pth)", text)):
        (leaf,) = ROOT.glob(f"*/configs/*/{name}.py")
        cfg = load_config(leaf)
        for step in cfg.test_dataloader.dataset.pipeline:
            if step["type"] == "Resize":
                step["scale"] = (64, 64)
        task = task_for(cfg)
        model, classes = task.build_model(cfg), [str(name) for name in task.class_names(cfg)]
        own = own_meta(model, None, None, task=task.name, classes=classes, config=cfg.to_dict())
        (folder / "work_dirs" / name).mkdir(parents=True)
        save_safely({"meta": {"ziggurat": own}, "state_dict": model.state_dict()}, folder / "work_dirs" / name / file)


def build(config):
    """The model of a config of mm's, in its scope; its backbone's weights are loaded as mm's runners do."""
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope

    cfg = Config.fromfile(config)
    init_default_scope(cfg.get("default_scope", "mmengine"))
    model = MODELS.build(cfg.model)
    model.backbone.init_weights()
    return model.eval()


@pytest.mark.parametrize("page", with_python("README.md", "classification/README.md"))
def test_python_runs(page, place, monkeypatch, capsys):
    text = "\n".join(blocks(page, "python"))
    offer_weights(text, place, monkeypatch)
    offer_runs(text, place)
    namespace = {"images": torch.rand(2, 3, 64, 64)}
    for block in blocks(page, "python"):
        if "custom_imports" not in block and not is_leaf(block):
            exec(compile(block, page, "exec"), namespace)
    printed = capsys.readouterr().out
    for said in re.findall(r"^print\(.*  # (.*[^.].)$", text, re.MULTILINE):
        assert said in printed or "..." in said


@pytest.mark.parametrize("page", [page for page in PAGES if "custom_imports" in "".join(blocks(page, "python"))])
def test_configs_build(page, place, monkeypatch):
    """A config as mm reads it gives a backbone and neck that compute, and the statistics of the weights it loads."""
    for block in blocks(page, "python"):
        if "custom_imports" not in block:
            continue
        offer_weights(block, place, monkeypatch)
        (place / "config.py").write_text(block)
        model = build(place / "config.py")
        with torch.no_grad():
            model.extract_feat(torch.rand(1, 3, 64, 64))
        row = backbones.WEIGHTS[NAMED_WEIGHTS.search(block)[0]]
        given = [getattr(model.data_preprocessor, which).flatten().tolist() for which in ("mean", "std")]
        assert given == [pytest.approx([255 * value for value in values]) for values in row.input]


@pytest.mark.parametrize("page", [page for page in PAGES if any(map(is_leaf, blocks(page, "python")))])
def test_leaves_are_real(page):
    """A leaf is shown as a file of the page's task has it."""
    leaves = [path.read_text() for path in (ROOT / page).parent.glob("configs/*/*.py")]
    for block in blocks(page, "python"):
        assert not is_leaf(block) or any(leaf.endswith(block) for leaf in leaves), block


def test_every_python_block_is_tested():
    """No page has Python that the tests above, or those of other pages, leave out."""
    tested = with_python(
        "README.md", "classification/README.md", "docs/add_a_network.md", "docs/frameworks.md", "docs/look.md"
    )
    for page in PAGES:
        for block in blocks(page, "python"):
            ast.parse(block)
            assert page in tested or "custom_imports" in block or is_leaf(block), block


# --- what is generated


def test_table_of_results_is_the_generated_one():
    readme = (ROOT / "README.md").read_text()
    assert results_table.with_table(readme, results_table.results_table()) == readme


def test_page_of_weights_is_the_generated_one():
    page = weights_table.weights_page()
    assert page == (ROOT / "docs/weights.md").read_text()
    for name, row in backbones.WEIGHTS.items():
        line = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        assert all(address in line for address in row.urls or (row.page,))


def test_page_of_frozen_features_is_the_generated_one():
    assert frozen_table.page() == frozen_table.PAGE.read_text()


def test_page_of_reliability_is_the_generated_one():
    assert reliability_page.page() == reliability_page.PAGE.read_text()


def test_the_figures_of_kills_and_of_odd_inputs_are_in_the_page(tmp_path, monkeypatch):
    """Every figure of the two JSON files has a cell, and odd inputs have a sum."""
    kills = {name: 11 + i for i, name in enumerate((*COUNTS, *FAULTS))}
    kills |= dict(training="a", steps=2, kills_at_random=3, kills_at_points=4, most_steps_lost=5, minutes=1)
    content = dict(date="2026-01-02", machine={"device": "b"}, points=["c"], linger=3, rows=[kills])
    (tmp_path / "kills.json").write_text(json.dumps(content))
    names = ("inputs", "results", "clear_errors", "tracebacks", "hangs", "crashes", "wrong")
    rows = [dict(target=target, **{name: 70 + i for i, name in enumerate(names)}) for target in "de"]
    (tmp_path / "fuzz.json").write_text(json.dumps(dict(rows=rows)))
    monkeypatch.setattr(reliability_page, "RESULTS", tmp_path)
    page = reliability_page.page()
    lost, differ = (kills["checkpoints_lost"] + kills["checkpoints_damaged"]), kills["losses_that_differ"]
    files = kills["files_that_differ"] + kills["kept_files_that_differ"]
    cells = ["a", 2, 3, 4, kills["runs"], kills["losses"], kills["half_files"], f"{kills['steps_lost']}, 5", lost]
    cells += [differ, files, kills["errors"], kills["processes_left"]]
    assert f"| {' | '.join(map(str, cells))} |" in page and "Measured on: b, 1 minutes." in page
    assert "| all | 140 | 142 | 144 | 146 | 148 | 150 | 152 |" in page


def test_page_of_benchmarks_is_the_generated_one(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    status, out, _ = run(benchmark_backbones, ["--tables", "docs/benchmarks"], monkeypatch, capsys)
    assert status == 0 and out == Path("docs/benchmarks.md").read_text()


def test_every_published_figure_has_its_source():
    results = json.loads(results_table.RESULTS.read_text())
    assert list(results["weights"]) == list(backbones.WEIGHTS)
    used = [figure for row in results["weights"].values() for figure in row.values()]
    assert {figure["source"] for figure in used} == set(results["sources"])
    assert {figure["note"] for figure in used if "note" in figure} == set(results["notes"])
    assert {column for row in results["weights"].values() for column in row} == set(results["columns"])


PUBLISHED = ROOT.parent / "shared/published"
HEADS = {"mask_rcnn": "Mask R-CNN", "cascade_mask_rcnn": "Cascade Mask R-CNN", "retinanet": "RetinaNet"}
HEADS |= {"atss": "ATSS", "gfl": "GFL", "semantic_fpn": "Semantic FPN", "upernet": "UPerNet"}
HEADS |= {"light_ham": "Light-Ham", "hamnet": "HamNet", "mask2former": "Mask2Former"}
PRETRAIN = {"in1k": "ImageNet-1K", "in22k": "ImageNet-22K", "in21k": "ImageNet-21K"}


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published figures are not beside this checkout")
def test_figures_are_the_published_ones():
    """Each figure is one that was published for the arch, the weights and the kind of head."""
    tables = json.loads((PUBLISHED / "dense_results.json").read_text())
    models = json.loads((PUBLISHED / "models.json").read_text())["models"]
    tables["models"] = [row | {"variant": arch} for arch, model in models.items() for row in model["results"]]
    for name, figures in json.loads(results_table.RESULTS.read_text())["weights"].items():
        arch, pretrain = name.split(".")
        for column, figure in figures.items():
            head, _, kind = column.rpartition("_")  # kind: a schedule, or multi(-scale)
            method = HEADS.get(head) or HEADS.get(column)
            table, keys = "ade20k", ["miou_ms"] if kind == "multi" else ["miou_ss", "miou_scale_not_stated"]
            if column.startswith("top1") or kind in ("1x", "3x"):
                table, keys = ("models", ["top1"]) if column.startswith("top1") else ("coco_detection", ["box_ap"])
            if kind == "panoptic":
                table, keys, kind = "coco_panoptic", ["pq"], "50 epochs"
            found = [
                row.get(key)
                for row in tables[table]
                for key in keys
                if row["variant"] == arch
                and (row["pretrain"] or "").startswith(PRETRAIN[pretrain])
                and (row.get("method") or "").startswith(method or "")
                and row.get("schedule", kind).startswith(kind)
                and (column != "top1_384" or row["resolution"] == 384)
            ]
            assert figure["value"] in found, (name, column)


def test_figures_are_rounded_as_people_do():
    assert [results_table.one_decimal(x) for x in (54.25, 49.35, 49.34, 46)] == ["54.3", "49.4", "49.3", "46.0"]


def test_speed_is_the_measured_one():
    """The one figure of speed: the median of ours beside the peer, float32, eager, each in a process of its own."""
    ratios = []
    for path in (ROOT / "docs/benchmarks").glob("backbones*.json"):
        report = json.loads(path.read_text())
        if report["precision"] == "fp32" and not report["compiled"]:
            ratios += [row["apart"]["inference"]["ours"]["ratio"] for row in report["rows"]]
    said = re.search(r"inference is ([\d.]+) times as fast.*?median of (\d+) networks", prose("README.md"), re.DOTALL)
    assert said.groups() == (f"{statistics.median(ratios):.1f}", str(len(ratios)))

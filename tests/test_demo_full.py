"""`make demo-full`: its plan has every head and family, it goes on where it stopped, a failed cell stops nothing."""

import json
from itertools import groupby
from pathlib import Path

import full
import full_page
import pytest
from dense_leaves import METHODS, WHOLE_LEAVES, name_parts
from full_heads import CLASSIFIER, HEADS
from full_plan import Cell, as_text, leaf_of, options_of, plan
from helpers import run

from backbones import FAMILIES, UserError, list_archs
from backbones.registry import family_of
from ziggurat.engine.config import load_config
from ziggurat.engine.options import parse_options

ROOT = Path(__file__).resolve().parent.parent
CELLS = plan([], [])
FIGURES = {"first_loss": 2.0, "last_loss": 1.0, "memory_mib": 900.0, "seconds": 30.0, "parameters": 4_000_000}


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_the_plan_has_every_head_and_family():
    """Every leaf's head is in the plan, with each family that has such a leaf, on the family's smallest arch."""
    planned = {(HEADS[cell.head].task, HEADS[cell.head].leaf, family_of(cell.arch)) for cell in CELLS}
    for path in WHOLE_LEAVES:
        head, arch, _ = name_parts(path)
        head = "upernet" if head.startswith("gn_upernet") else head  # UPerNet with another last convolution
        assert head in METHODS and (path.parts[0], head, family_of(arch)) in planned, path
    for family in FAMILIES:
        archs = [cell.arch for cell in CELLS if family_of(cell.arch) is family]
        assert archs.count(next(iter(family.ARCHS))) == len(archs) >= 14
    endings = {HEADS[cell.head].ending for cell in CELLS if HEADS[cell.head].leaf == "mask2former"}
    assert endings == {"_coco", "_coco_panoptic", "_ade20k"}
    for arch, cells in groupby(CELLS, lambda cell: cell.arch):
        assert next(cells) == Cell(CLASSIFIER, arch)


def test_a_familys_cells_start_from_its_own_leaf(tmp_path):
    for cell in CELLS:
        options = options_of(cell, tmp_path, tmp_path / "weights.pth", iterations=7)
        assert options["model.backbone.arch"] == cell.arch
        assert parse_options(as_text(options)) == {**options, "data_root": str(options["data_root"])}
        if cell.head != CLASSIFIER:
            assert leaf_of(cell).parent.name == family_of(cell.arch).__name__.lower()
            assert options["model.backbone.pretrained"] == str(tmp_path / "weights.pth")


@pytest.mark.parametrize("head", HEADS)
def test_a_head_takes_its_options(head, tmp_path):
    (cell, *_) = (cell for cell in CELLS if cell.head == head)
    options = options_of(cell, tmp_path, None, iterations=7)
    leaf, cfg = load_config(leaf_of(cell)), load_config(leaf_of(cell), parse_options(as_text(options)))
    for key, value in HEADS[head].options.items():
        *groups, last = key.split(".")
        assert reached(cfg, groups)[last] == value, key
        if groups[1:2] in (["train_cfg"], ["test_cfg"]):  # nothing refuses a wrong name there
            assert last in reached(leaf, groups) or last == "object_mask_thr", key


def reached(part, keys):
    for key in keys:
        part = part[int(key)] if isinstance(part, list) else part[key]
    return part


def test_patterns_choose_heads_and_archs():
    cells = plan(["mask*"], ["pvig_*", "van_b0"])
    assert {cell.arch for cell in cells} == {arch for arch in list_archs() if arch.startswith("pvig_")} | {"van_b0"}
    assert {cell.head for cell in cells} - {CLASSIFIER} == {head for head in HEADS if head.startswith("mask")}
    assert plan(["deep*"], []) == [Cell(CLASSIFIER, "van_b0"), Cell("deeplabv3plus", "van_b0")]
    for heads, archs, words in [
        (["yolo"], [], "--heads yolo: matches nothing; allowed: patterns of "),
        ([], ["resnet*"], r"--archs resnet\*: matches nothing"),
        (["hamnet"], ["vig_tiny"], "--heads hamnet: no family of vig_tiny has a leaf of it"),
    ]:
        with pytest.raises(UserError, match=words):
            plan(heads, archs)


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """Runs the tool with a process that stands in for a training. Returns the call, and the cells that were trained."""
    trained, broken = [], {}

    def train_apart(folder, order, threads):
        trained.append(folder.name)
        (folder / "log.txt").write_text(f"line\nerror: {folder.name} has no nose\n\n")
        if folder.name in broken:
            return broken[folder.name]
        if folder.name.startswith(CLASSIFIER):
            (folder / "run").mkdir()
            (folder / "run/epoch_1.pth").touch()
        (folder / "figures.json").write_text(json.dumps(FIGURES | dict.fromkeys(order["metrics"], 0.5)))
        return 0

    monkeypatch.setattr(full, "train_apart", train_apart)
    monkeypatch.setattr(full, "data_commands", lambda data: [])

    def call(capsys, *words):
        trained.clear()
        argv = ["--work-dir", tmp_path / "work", "--data", tmp_path / "data", "--archs", "van_b0", "vig_tiny", *words]
        status, out, _ = run(full, argv, monkeypatch, capsys)
        report = json.loads((tmp_path / "work/report.json").read_text())
        return status, out, {(cell["head"], cell["arch"]): cell for cell in report["cells"]}

    return call, trained, broken


def test_finished_cells_are_kept_and_a_failed_one_runs_again(stand_in, capsys, tmp_path):
    call, trained, broken = stand_in
    broken |= {"atss-van_b0": 2, "gfl-vig_tiny": -9}
    status, _, cells = call(capsys, "--heads", "atss", "gfl")
    assert status == 1 and trained[:3] == ["classifier-van_b0", "atss-van_b0", "gfl-van_b0"] and len(trained) == 6
    assert cells["atss", "van_b0"]["failure"] == "atss-van_b0 has no nose"
    assert cells["gfl", "vig_tiny"]["failure"] == "ended by signal 9 after: gfl-vig_tiny has no nose"
    assert cells["gfl", "van_b0"]["box_ap"] == 0.5
    assert cells["gfl", "van_b0"]["leaf"] == "detection/configs/van/gfl_van_b1_fpn_3x_coco.py"
    assert len(cells) == len(CELLS) and "seconds" not in cells["dino", "pvig_tiny"]
    page = full_page.page(full.read_report(tmp_path / "work/report.json"))
    assert "| ATSS | box AP50 | failed | not run | not run | 50.0 | not run |" in page
    assert "- ATSS, van_b0: atss-van_b0 has no nose" in page and "- DINO, pvig_tiny\n" in page
    html = (tmp_path / "work/report.html").read_text()
    assert "has no nose" in html and html.count("<td>GFL</td>") == 2

    broken.clear()
    status, out, cells = call(capsys, "--heads", "atss", "gfl")
    assert status == 0 and trained == ["atss-van_b0", "gfl-vig_tiny"] and out.count("there already") == 4
    assert cells["atss", "van_b0"]["box_ap"] == 0.5
    assert call(capsys, "--heads", "gfl")[2] == cells, "a choice of heads leaves the others in the report"


def test_an_interrupted_cell_and_one_of_other_settings_run_again(stand_in, capsys, tmp_path):
    call, trained, _ = stand_in
    call(capsys, "--heads", "segformer")
    (tmp_path / "work/cells/segformer-van_b0/figures.json").unlink()
    call(capsys, "--heads", "segformer")
    assert trained == ["segformer-van_b0"]
    _, _, cells = call(capsys, "--heads", "segformer", "--iterations", "12")
    assert trained == ["segformer-van_b0", "segformer-vig_tiny"] and cells["segformer", "van_b0"]["miou"] == 0.5


def test_without_a_classifier_an_archs_cells_fail(stand_in, capsys):
    call, trained, broken = stand_in
    broken["classifier-vig_tiny"] = 1
    status, _, cells = call(capsys, "--heads", "upernet")
    assert status == 1 and "upernet-vig_tiny" not in trained
    assert cells["upernet", "vig_tiny"]["failure"] == "there are no weights, as the classifier of vig_tiny failed"
    assert cells["upernet", "van_b0"]["miou"] == 0.5


def test_the_page_is_that_of_the_kept_run():
    report = full.read_report(ROOT / "docs/demo_full.json")
    assert full_page.page(report) == (ROOT / "docs/demo_full.md").read_text()
    assert {(cell["head"], cell["arch"]) for cell in report["cells"]} == {(cell.head, cell.arch) for cell in CELLS}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--page", "none.json"], "none.json: no report of this tool"),
        (["--iterations", "9"], "'9'; allowed: integers from 10"),
        (["--heads", "yolo"], "--heads yolo: matches nothing"),
    ],
)
def test_mistakes_are_one_line(argv, words, monkeypatch, capsys):
    status, _, err = run(full, argv, monkeypatch, capsys)
    assert status == 2 and words in err and err.count("\n") == 1

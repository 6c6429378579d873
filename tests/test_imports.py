"""Imports point one way: no network imports a task, no task another task, and nothing imports the tools."""

import ast
import subprocess
import sys

import pytest
from conftest import ROOT

from backbones import FAMILIES

TASKS = {"classification", "detection", "segmentation"}
MM = {"mmengine", "mmcv", "mmdet", "mmseg"}
ENGINE, OPERATORS, ROOT_FOLDER = "ziggurat.engine", "ziggurat.mmcv_ops", "ziggurat.root"
OURS = TASKS | {"backbones", ENGINE, OPERATORS, ROOT_FOLDER, "ziggurat", "tools"}
# What each package may import among our packages and the mm stack.
ALLOWED = {
    "backbones": {"backbones"},
    OPERATORS: {OPERATORS, "mmcv"},
    ENGINE: {ENGINE, ROOT_FOLDER, "backbones", "mmengine"},
    "classification": {"classification", ENGINE, "backbones", "mmengine"},
    "detection": {"detection", ENGINE, "backbones", OPERATORS, "mmengine", "mmcv", "mmdet"},
    "segmentation": {"segmentation", ENGINE, "backbones", OPERATORS, "mmengine", "mmcv", "mmseg"},
    "tools": OURS - {"tools"} | MM,
}
NETS = [family.__module__.rpartition(".")[2] for family in FAMILIES]


def imported(path):
    """(module, line) of every import in a file, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module in ("backbones", "ziggurat"):
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or ""), node.lineno


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_packages_import_only_what_they_may(package):
    files = [
        path
        for path in (ROOT / package.replace(".", "/")).rglob("*.py")
        if "configs" not in path.relative_to(ROOT).parts
    ]
    assert files
    for path in files:
        for module, line in imported(path):
            found = ".".join(module.split(".")[: 2 if module.startswith("ziggurat.") else 1])
            assert found not in (OURS | MM) - ALLOWED[package], f"{path.relative_to(ROOT)}:{line} imports {module}"


def test_no_test_imports_another_and_no_tool_reads_the_tests():
    """What test files share is in files of its own, without tests in them."""
    for path in (ROOT / "tests").glob("*.py"):
        for module, line in imported(path):
            assert not module.startswith("test_"), f"{path.name}:{line} imports {module}"
    runs_them = ROOT / "tools/bench/gpu_sections.py"
    for path in set((ROOT / "tools").rglob("*.py")) - {runs_them}:
        assert '/ "tests"' not in path.read_text() and "tests/" not in path.read_text(), path


@pytest.mark.parametrize("net", NETS)
def test_nets_import_no_other_net_and_no_loading(net):
    allowed = {"errors", "checks", "memory_format", "cpu", "fuse", "layers", "gated_conv", "graph_layers"}
    allowed |= {"pyramid", "stage", "output_stride"}
    for module, line in imported(ROOT / "backbones" / f"{net}.py"):
        if module.startswith("backbones"):
            inside = module.split(".")[1]
            assert inside in allowed | {"ops"}, f"{net}.py:{line} imports {module}"


# The floors of backbones/: a file imports from floors below its own.
FLOORS = ["errors version", "memory_format places files", "checks cpu", "ops fuse recompute", "layers convert"]
FLOORS += ["gated_conv graph_layers weights stage", "pyramid", "output_stride", " ".join(NETS), "registry"]
FLOORS += ["features heads", "timm show"]


def test_imports_between_the_files_of_the_networks_point_down():
    floor = {name: i for i, names in enumerate(FLOORS) for name in names.split()}
    for name in floor:
        path = ROOT / "backbones" / name
        for file in path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]:
            for module, line in imported(file):
                inside = module.split(".")[1] if module.startswith("backbones.") else name
                if inside in floor and inside != name:
                    assert floor[inside] < floor[name], f"{file.name}:{line} imports {module}"


@pytest.mark.parametrize("task", sorted(TASKS))
def test_configs_stay_within_their_task(task):
    for path in (ROOT / task / "configs").rglob("*.py"):
        text = path.read_text()
        assert not any(other in text for other in TASKS - {task} if f"{other}/" in text), path


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_task_brings_its_own_stack_only(task):
    """In a fresh interpreter: the operators are in place, the backbones registered, the other task absent."""
    other, registry = {"detection": ("segmentation", "mmdet"), "segmentation": ("detection", "mmseg")}[task]
    code = (
        f"import sys, {task}; from {registry}.registry import MODELS; assert MODELS.get('VAN') is not None;"
        f"import mmcv._ext; assert '{other}' not in sys.modules; print('fine')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip().endswith("fine"), done.stderr

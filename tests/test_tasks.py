"""A task is one class, ``Task``. No code asks for a config's task by name, or looks into a task's package."""

import ast
import importlib
import inspect

import pytest
from conftest import ROOT

from ziggurat.engine.task import Task
from ziggurat.engine.tasks import TASKS

FILES = sorted(path for folder in ("ziggurat/engine", "tools") for path in (ROOT / folder).rglob("*.py"))
DATA = {"CocoDataset", "MaskFolderDataset", "ImageFolder"}


def texts(node):
    """The strings in an expression."""
    return {part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)}


@pytest.mark.parametrize("name", TASKS)
def test_each_task_offers_all_of_it(name):
    task = importlib.import_module(name).TASK
    assert isinstance(task, Task) and task.name == name
    assert importlib.import_module(f"{task.scope}.registry").MODELS
    for method, wanted in inspect.getmembers(Task, inspect.isfunction):
        assert wanted.__doc__ or method.startswith("_"), method
        found = inspect.signature(getattr(type(task), method))
        assert list(found.parameters) == list(inspect.signature(wanted).parameters), method


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_tells_tasks_apart_by_name(path):
    """No ``if task == "detection"``, no dict from tasks to what they do, no ``hasattr(task, ...)``, no data set's type
    compared with a string. The demo's own table of its configs is a list of files, not of tasks."""
    for node in ast.walk(ast.parse(path.read_text())):
        line = f"{path.name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Compare):
            assert not texts(node) & (set(TASKS) | DATA), line
        if isinstance(node, ast.Dict) and "demo" not in path.parts:
            keys = {key.value for key in node.keys if isinstance(key, ast.Constant)}
            assert len(keys & set(TASKS)) < 2, line
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "hasattr":
            assert "task" not in ast.unparse(node.args[0]), line


@pytest.mark.parametrize("name", TASKS)
def test_no_task_compares_the_type_of_a_data_set(name):
    for path in (ROOT / name).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                assert not texts(node) & DATA, f"{path.name}:{node.lineno}"

"""docs/frameworks.md and docs/look.md are true: their blocks run, where the frameworks in them are installed."""

import ast
import importlib.util
import re

import pytest
import torch.distributed as dist
from conftest import ROOT
from PIL import Image

PAGE = (ROOT / "docs/frameworks.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def imported(block):
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]


def frameworks(block):
    return {name for name in imported(block) if importlib.util.find_spec(name) is None}


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: "-".join(sorted({*imported(block)} - {"torch", "os"})))
def test_examples_run(block, tmp_path, monkeypatch, capsys):
    missing = frameworks(block)
    if missing:
        pytest.skip(f"not installed: {', '.join(sorted(missing))}")
    monkeypatch.chdir(tmp_path)
    try:
        exec(compile(block, "docs/frameworks.md", "exec"), {"__name__": "example"})
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    printed = capsys.readouterr().out
    assert all(said in printed for said in re.findall(r"^print\(.*  # (.*)$", block, re.MULTILINE))


def test_pictures_of_networks_are_made(tmp_path, monkeypatch):
    page = (ROOT / "docs/look.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Image.effect_noise((320, 240), 50).convert("RGB").save("street.jpg")
    namespace = {"__name__": "example"}
    for block in blocks:
        exec(compile(block, "docs/look.md", "exec"), namespace)
    named = set(re.findall(r'save\("(\w+\.png)"\)', page))
    assert {path.name for path in tmp_path.glob("*.png")} == named and len(named) == 9

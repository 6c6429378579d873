"""docs/add_a_network.md is true: a copy of the repository, changed as the page says, has a new network in all tasks.

A Python block of the page is a new file, which the block's heading names. A diff block changes a file, which the
heading or the text before the block names.
"""

import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

PAGE = (ROOT / "docs/add_a_network.md").read_text()
PACKAGES = ("backbones", "classification", "detection", "segmentation", "ziggurat", "tools", "tests", "docs")
BLOCK = re.compile(r"^```(python|diff)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def edits():
    """(file, language, text) of every block, the file being the last one named before the block."""
    for found in BLOCK.finditer(PAGE):
        before = BLOCK.sub("", PAGE[: found.start()])
        names = re.findall(r"^(?:##.*|)`(backbones/\S+\.py|classification/\S+\.py)`", before, re.MULTILINE)
        yield names[-1], found[1], found[2]


def change(text, diff):
    """``text`` after a diff whose hunks begin with ``@@``: the old lines of each are found once and replaced."""
    for hunk in re.split(r"^@@\n", diff, flags=re.MULTILINE)[1:]:
        lines = hunk.splitlines(keepends=True)
        old, new = ("".join(line[1:] for line in lines if line[0] in (" ", sign)) for sign in "-+")
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    root = tmp_path_factory.mktemp("copy")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "parity", "benchmarks"))
    shutil.copy(ROOT / "pyproject.toml", root)
    for file, language, text in edits():
        path = root / file
        assert path.exists() == (language == "diff"), file
        path.write_text(change(path.read_text(), text) if language == "diff" else text)
    return root


def python(root, *arguments):
    env = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, *arguments], cwd=root, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


USE = """
import torch, backbones
from backbones.weights import save_safely
from classification import create_classifier

assert backbones.__file__.startswith({root!r}), backbones.__file__
assert backbones.list_archs("ridge*") == ["ridge_tiny", "ridge_small"]
net = backbones.create_backbone("ridge_tiny", drop_path_rate=0.1)
maps = net(torch.randn(2, 3, 75, 64))
assert [tuple(m.shape[1:]) for m in maps] == [(16, 19, 16), (32, 10, 8), (64, 5, 4), (96, 3, 2)]
assert [(info.channels, info.stride) for info in net.feature_info] == [(16, 4), (32, 8), (64, 16), (96, 32)]
sum(m.square().mean() for m in maps).backward()
assert all(p.grad is not None for p in net.parameters())

clf = create_classifier("ridge_tiny", num_classes=3).eval()
save_safely(dict(state_dict=clf.state_dict()), "own.pth")
again = create_classifier("ridge_tiny", num_classes=3, pretrained="own.pth").eval()
x = torch.randn(1, 3, 64, 64)
assert torch.equal(clf(x), again(x)) and clf(x).shape == (1, 3)
fused = backbones.create_backbone("ridge_tiny", pretrained="own.pth").fuse()
assert torch.allclose(fused(x)[3], clf.backbone(x)[-1], atol=1e-5)

ours = {{name.removeprefix("backbone."): value for name, value in clf.state_dict().items()}}
written, left_out = backbones.convert.write_state("ridge_tiny", type(net).ARCHS["ridge_tiny"], ours, "official")
assert not left_out and "layers.0.0.conv.weight" in written
save_safely(dict(model=written), "official.pth")
official = create_classifier("ridge_tiny", num_classes=3, pretrained="official.pth").eval()
assert torch.equal(clf(x), official(x)) and official.backbone.load_report.source == "official"
"""

COMMAND = re.compile(r"^python tools/train.py (\S+) --cfg-options (.+)$", re.MULTILINE)
COMPLETE = """
import torch
from ziggurat.engine.config import load_config
from ziggurat.engine.tasks import task_for

for config, options in {commands}:
    model = load_config(config, options.split()).model
    assert list((model.get("neck") or model.decode_head).in_channels) == [16, 32, 64, 96]
    assert [round(value, 3) for value in model.data_preprocessor.mean] == [123.675, 116.28, 103.53]

config, options = {commands}[0]
cfg = load_config(config, [*options.split(), "model.backbone.pretrained={weights}"])
model = task_for(cfg).build_model(cfg)
model.backbone.init_weights()
assert model.backbone.load_report.missing == []
assert [m.shape[1] for m in model.extract_feat(torch.randn(1, 3, 64, 64))] == [256] * 5
"""


def test_the_new_network_works_in_all_tasks(copy):
    commands = COMMAND.findall(PAGE)
    assert len(commands) == 2
    python(copy, "-c", USE.format(root=str(copy)) + COMPLETE.format(commands=commands, weights=copy / "own.pth"))


def test_the_page_counts_its_files():
    """ "Three files change" are those before the part on published weights."""
    needed = [file for file, _, _ in edits() if "convert" not in file]
    assert "Three files change" in PAGE and len(set(needed)) == 3


def test_tests_over_every_arch_take_the_new_one(copy):
    done = python(copy, "-m", "pytest", "-x", "-p", "no:cacheprovider", "tests/test_backbones.py", "-k", "ridge_tiny")
    assert int(re.search(r"(\d+) passed", done)[1]) > 10

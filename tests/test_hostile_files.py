"""No file of ``hostile_files`` runs code, crashes the process, or takes much time or memory. Each is one line.

One process with little memory reads all of them. Reading all takes a few seconds.
"""

import json
import subprocess
import sys
import time

import numpy
import pytest
import torch
from helpers import same
from hostile_files import HOSTILE, archived, called, entry, named, text

from backbones import UserError, create_backbone, load_weights
from backbones.weights import read_checkpoint

SECONDS = 10.0  # for one file, on a busy machine; the slowest takes 2 on an idle one
READ = """
import json, resource, sys, time, warnings
from pathlib import Path
from backbones.weights import read_checkpoint
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + (2 << 30), used + (2 << 30)))
for line in sys.stdin:
    start = time.monotonic()
    try:
        read_checkpoint(line.strip())
        kind, message = "", "was read"
    except BaseException as error:
        kind, message = type(error).__name__, str(error)
    print(json.dumps([kind, message, time.monotonic() - start]), flush=True)
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """name -> kind of error, message, seconds; and the folder in which all was read."""
    folder = tmp_path_factory.mktemp("hostile")
    paths = [folder / f"{name.replace(' ', '_').replace('*', 'x')}{case.suffix}" for name, case in HOSTILE.items()]
    for path, case in zip(paths, HOSTILE.values(), strict=True):
        case.write(path)
    names = "".join(f"{path}\n" for path in paths)
    found = subprocess.run([sys.executable, "-c", READ], input=names, capture_output=True, text=True, cwd=folder)
    lines = found.stdout.splitlines()
    assert len(lines) == len(HOSTILE), f"{list(HOSTILE)[len(lines)]} ended the process: {found.returncode}"
    yield dict(zip(HOSTILE, map(json.loads, lines), strict=True)), folder
    for path in paths:
        path.unlink()


def test_there_are_many():
    assert len(HOSTILE) >= 40


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_line(name, outcomes):
    kind, message, seconds = outcomes[0][name]
    assert kind == "UserError", message
    words = HOSTILE[name].words.split("|")
    assert any(word in message for word in words) and "\n" not in message and len(message) < 400, message
    assert str(outcomes[1]) in message
    assert seconds < SECONDS


def test_no_code_ran(outcomes):
    assert not (outcomes[1] / "ran").exists()


def test_many_foreign_tensors_are_named_soon():
    """Each layout of the family is tried on all names."""
    state = create_backbone("van_b0").state_dict() | {f"x.{i}": torch.zeros(1) for i in range(20_000)}
    start = time.monotonic()
    with pytest.raises(UserError, match="20000 unexpected"):
        load_weights(create_backbone("van_b0"), state)
    assert time.monotonic() - start < SECONDS


def test_what_is_read_has_the_methods_of_a_dict(tmp_path):
    """An OrderedDict in a pickle can have an attribute ``items``."""
    mine = archived(called(named("collections", "OrderedDict")) + entry(b"N", "items") + b"b" + text("a") + b"K\x01s")
    mine(tmp_path / "w.pth")
    assert list(read_checkpoint(tmp_path / "w.pth").items()) == [("a", 1)]


def test_what_networks_and_optimisers_need_is_read(tmp_path):
    """Tensors of every type, tied, empty, transposed and expanded ones, and the versions of a network's modules."""
    net = torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.Linear(3, 3, bias=False))
    net[1].weight.grad = torch.ones(3, 3)
    optimiser = torch.optim.AdamW(net[1].parameters())
    optimiser.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [3, 3, 4])
    kinds = (torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.uint8, torch.bool, torch.complex64)
    kinds += (torch.uint16, torch.float8_e4m3fn)
    content = {
        "state_dict": net.state_dict(),
        "optimizer": optimiser.state_dict(),
        "schedule": schedule.state_dict(),
        "kinds": [torch.ones(2).to(kind) for kind in kinds],
        "views": [torch.rand(3, 4).T, torch.rand(1, 4).expand(3, 4), torch.zeros(0), torch.zeros(())],
        "parameter": torch.nn.Parameter(torch.ones(1)),
        "plain": {"a": (1, 2.5, None, True, b"\xff", {3}, 1 << 100, torch.Size([1]), torch.float16)},
        "numbers": [numpy.float32(0.5), numpy.float64(0.5), numpy.int64(-3), numpy.uint8(7), numpy.bool_(True)],
        "arrays": numpy.zeros(3),
    }
    for old in (False, True):
        if old:
            content["kinds"] = content["kinds"][:-2]  # PyTorch's old format has no such types
        torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=not old)
        found = read_checkpoint(tmp_path / "w.pth")
        for name in ("state_dict", "optimizer", "kinds", "views"):
            same(found[name], dict(content[name]) if name == "state_dict" else content[name])
        assert found["state_dict"]._metadata == net.state_dict()._metadata
        assert found["schedule"] == content["schedule"] and found["plain"] == content["plain"]
        assert found["numbers"] == [0.5, 0.5, -3, 7, True] and not isinstance(found["arrays"], numpy.ndarray)

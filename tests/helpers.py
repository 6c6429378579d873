"""Helpers of several test files: small archs, networks after training, tools in this process, the course of a run."""

import sys

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from backbones import FAMILIES
from ziggurat.engine.cli import run_tool

SMALL = [*(next(iter(family.ARCHS)) for family in FAMILIES), "hornet_tiny_gf"]  # of each kind the least
# Regions on two maps: inside, with adaptive grids of several sizes, partly and wholly off the map, of no width.
REGIONS = [
    [0, 2.0, 3.0, 20.0, 17.0],
    [1, 0.0, 0.0, 31.0, 25.0],
    [1, -12.0, -8.0, 9.0, 30.0],
    [0, 20.0, 5.0, 60.0, 44.0],
    [0, 100.0, 100.0, 130.0, 120.0],
    [1, 8.0, 8.0, 8.0, 19.0],
]


def trained_norms(net):
    """Random statistics and scales, so that folding or freezing them wrongly shows."""
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    for param in net.parameters():
        if param.ndim == 1:
            param.data += torch.rand_like(param)
    return net


def loss(maps):
    return sum(m.float().square().mean() for m in maps)


def run(tool, argv, monkeypatch, capsys):
    """Exit status, standard output and standard error of a tool run in this process."""
    monkeypatch.setattr(sys, "argv", [f"{tool.__name__}.py", *map(str, argv)])
    with pytest.raises(SystemExit) as stop:
        run_tool(tool.main)
    captured = capsys.readouterr()
    return stop.value.code or 0, captured.out, captured.err


@HOOKS.register_module(force=True)
class Losses(Hook):
    """Collects the loss of every step."""

    def __init__(self):
        self.values = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.values.append(outputs["loss"].item())


def same(ours, theirs, name=""):
    """Asserts that two trees of tensors and values are equal, bit for bit. The message tells the first difference."""
    if isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), f"{name}{first_difference(ours, theirs)}"
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), f"{name}: {ours.keys() ^ theirs.keys()} only in one"
        for key in ours:
            same(ours[key], theirs[key], f"{name}.{key}")
    elif isinstance(ours, list | tuple):
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            same(a, b, f"{name}[{i}]")
    else:
        assert ours == theirs, f"{name}: {ours!r} and {theirs!r}"


def first_difference(ours, theirs):
    """Where two tensors differ first, with both values and the number of differences."""
    if ours.shape != theirs.shape:
        return f": shapes {tuple(ours.shape)} and {tuple(theirs.shape)}"
    places = (ours != theirs).nonzero()
    if not len(places):
        return f": {ours.dtype} and {theirs.dtype}, or NaN"
    place = tuple(places[0].tolist())
    return f"{list(place)}: {ours[place].item()} and {theirs[place].item()} ({len(places)} of {ours.numel()} differ)"

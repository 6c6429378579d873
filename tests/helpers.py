"""Helpers of several test files: small archs, networks in the state after training, a loss, tools in this process."""

import sys

import pytest
import torch

from backbones import FAMILIES
from engine.cli import run_tool

SMALL = [*(next(iter(family.ARCHS)) for family in FAMILIES), "hornet_tiny_gf"]  # of each kind the least


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

"""A resumed training of a detector or segmenter is the uninterrupted one, bit for bit.

Workers, shuffling, random crops, flips and colours, random sampling of regions, drop path, dropout and averaged weights
take part, by epoch and by iteration.
"""

from pathlib import Path

import pytest
import torch
from conftest import ROOT
from dense_run import TASKS, options_for, write_data
from helpers import Losses, same

from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_training


@pytest.fixture(autouse=True)
def shallow(cut_depths):
    cut_depths("van_b0", (1, 1, 1, 1))


def train(leaf, data, work_dir, workers, resume=None):
    """The losses of six steps, and the last checkpoint; a checkpoint comes after every second step."""
    cfg = load_config(ROOT / leaf, options_for(leaf, data, workers))
    runner = build_training(cfg, work_dir, resume=resume, device="cpu")
    runner.train()
    losses = next(hook.values for hook in runner.hooks if isinstance(hook, Losses))
    return losses, torch.load(Path(work_dir) / "iter_6.pth", weights_only=True)


@pytest.mark.parametrize("leaf", TASKS, ids=lambda leaf: leaf.partition("/")[0])
def test_a_resumed_run_is_the_uninterrupted_one(leaf, tmp_path):
    """From the middle of an epoch of three steps, and with another number of workers."""
    data = write_data(leaf, tmp_path / "data")
    losses, last = train(leaf, data, tmp_path / "straight", workers=2)
    assert len(losses) == len(set(losses)) == 6
    again, ours = train(leaf, data, tmp_path / "resumed", workers=0, resume=tmp_path / "straight/iter_2.pth")
    assert again == losses[2:]
    for part in ("state_dict", "ema_state_dict", "optimizer", "param_schedulers"):
        same(ours[part], last[part], part)

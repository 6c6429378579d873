"""A run that ended between a checkpoint and the end of the validation after it begins with that validation."""

import copy

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from paper_run import EPOCH, RECIPE, UNTESTED, validated_options_for

from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_training
from ziggurat.engine.summary import SummaryHook

pytestmark = pytest.mark.usefixtures("shallow_van", "undrawn")
BY_EPOCH = {"train_cfg.max_epochs": 1, "default_hooks.checkpoint": dict(by_epoch=True, interval=1, save_best="top1")}
BY_ITERATION = {
    "train_cfg": dict(_delete_=True, type="IterBasedTrainLoop", max_iters=EPOCH, val_interval=4),
    "param_scheduler": [],
    "log_processor.by_epoch": False,
    "default_hooks.checkpoint": dict(by_epoch=False, interval=4, save_best="top1"),
}


@pytest.fixture
def undrawn(monkeypatch):
    """Drawing the curves takes longer than such a run."""
    monkeypatch.setattr(SummaryHook, "draw", lambda hook, runner: None)


@HOOKS.register_module(force=True)
class Breaks(Hook):
    """Keeps the course of a run. ``breaks`` ends the run, as if by a kill, in the first batch of a validation."""

    def __init__(self, breaks=False):
        self.breaks, self.course = breaks, []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.course.append(runner.iter + 1)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if self.breaks:
            raise KeyboardInterrupt
        self.course.append("validation")


def run(images, work_dir, options, breaks=False):
    options = validated_options_for(
        images, 0, **copy.deepcopy(options), custom_hooks=[dict(type="Breaks", breaks=breaks)]
    )
    runner = build_training(load_config(RECIPE, options), work_dir, resume="auto", device="cpu")
    runner.train()
    return next(hook.course for hook in runner.hooks if isinstance(hook, Breaks))


@pytest.mark.parametrize(
    ("options", "course", "names"),
    [
        (BY_EPOCH, ["validation"], {"epoch_1.pth", "best_top1_epoch_1.pth"}),
        (BY_ITERATION, ["validation", 5, 6, "validation"], {"iter_4.pth", "iter_6.pth", "best_top1_iter_4.pth"}),
    ],
    ids=["epochs", "iterations"],
)
def test_a_validation_that_was_cut_off_is_done_by_the_resumed_run(noise_images, tmp_path, options, course, names):
    with pytest.raises(KeyboardInterrupt):
        run(noise_images, tmp_path, options, breaks=True)
    assert not list(tmp_path.glob("best_*"))
    assert run(noise_images, tmp_path, options) == course
    assert {path.name for path in tmp_path.glob("*.pth")} == names
    last = torch.load(tmp_path / (tmp_path / "last_checkpoint").read_text(), weights_only=True)
    info = last["message_hub"]["runtime_info"]
    assert "best_score" in info and info["validation_cut"] is False
    assert run(noise_images, tmp_path, options) == []  # the outcome is in the checkpoint


def test_a_file_that_was_to_be_removed_is_removed_by_the_resumed_run(noise_images, tmp_path):
    """As when a kill comes between the record of a checkpoint and the removal of an older one."""
    saving = dict(by_epoch=False, interval=2, max_keep_ckpts=1, save_best=None)
    options = {"train_cfg.max_epochs": 1, "default_hooks.checkpoint": saving, **UNTESTED}
    run(noise_images, tmp_path, options)
    for name in ("iter_4.pth", "iter_2.pth", "mine.pth"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "last_checkpoint").unlink()
    run(noise_images, tmp_path, options)
    assert {path.name for path in tmp_path.glob("*.pth")} == {"iter_6.pth", "iter_2.pth", "mine.pth"}
    assert (tmp_path / "last_checkpoint").read_text().endswith("iter_6.pth")

"""``early_stopping``: a run ends after so many validations without improvement, and a resumed run counts on."""

import logging
import math
from types import SimpleNamespace

import pytest
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.registry import HOOKS, METRICS
from paper_run import RECIPE, validated_options_for, write_images

from backbones import UserError
from ziggurat.engine.complete import complete
from ziggurat.engine.config import load_config
from ziggurat.engine.early_stopping import StopEarlyHook, checked
from ziggurat.engine.run import build_training
from ziggurat.engine.summary import SummaryHook

NAN = math.nan
SCORES = []


@METRICS.register_module(force=True)
class Scripted(BaseMetric):
    """The scores of a test, one for each validation."""

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return {"top1": SCORES.pop(0), "loss_val": 1.0}


@HOOKS.register_module(force=True)
class BreaksBefore(Hook):
    """Ends a run, as if by a kill, before an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def before_train_epoch(self, runner):
        if runner.epoch == self.epoch:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images") / "data")


@pytest.fixture
def run(images, tmp_path, monkeypatch, cut_depths):
    """Runs a training with these scores, and returns how many epochs it had."""
    cut_depths("van_b0", (1, 1, 1, 1))
    monkeypatch.setattr(SummaryHook, "draw", lambda hook, runner: None)

    def start(scores, option, breaks=-1, resume="auto", epochs=8, **options):
        SCORES[:] = scores
        given = dict(custom_hooks=[dict(type="BreaksBefore", epoch=breaks)], early_stopping=option, val_evaluator=dict(
            _delete_=True, type="Scripted"
        ))  # fmt: skip
        given["default_hooks.checkpoint"] = dict(by_epoch=True, interval=1, save_best="top1", max_keep_ckpts=1)
        given |= {"train_cfg.max_epochs": epochs, "train_dataloader.batch_size": 12, "param_scheduler.epochs": 8}
        cfg = load_config(RECIPE, validated_options_for(images, 0, **given | options))
        runner = build_training(cfg, tmp_path / "run", resume=resume, device="cpu")
        runner.train()
        return runner.epoch

    return start


def test_a_run_ends_after_the_last_chance(run, capsys):
    assert run([40, 43, 41, NAN, 42], 3) == 5
    assert (
        "note: stopped early: top1 42 has not improved for 3 validations, best 43 in epoch_2\n"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("scores", "option", "epochs"),
    [
        ([40, 40, 40], 2, 3),  # equal is no improvement
        ([NAN, NAN], 2, 2),
        ([40, 41, 42, 43, 43.4], dict(patience=2, min_delta=1.5), 5),  # 42 improves on 40
        ([40, 41, 41.2, 41.4], dict(patience=2, min_delta=0.5), 4),
        ([40, 30, 20, 25, 26], dict(patience=2, rule="less"), 5),
        ([1, 2, 3, 4], dict(patience=3, monitor="loss_val"), 4),
    ],
)
def test_what_counts_as_improvement(scores, option, epochs):
    hook = StopEarlyHook(**checked(option))
    runner = SimpleNamespace(epoch=0, iter=0, message_hub=MessageHub("early"), logger=logging.getLogger("early"))
    runner.train_loop = SimpleNamespace(stop_training=False)
    while not runner.train_loop.stop_training:
        runner.epoch, runner.iter = runner.epoch + 1, runner.iter + 4
        hook.after_val_epoch(runner, {"top1": scores[runner.epoch - 1], "loss_val": 1.0})
    assert runner.epoch == epochs


def test_a_resumed_run_counts_on(run, tmp_path, capsys):
    """Killed after two validations without improvement; a stopped run stays so, unless it may wait longer."""
    with pytest.raises(KeyboardInterrupt):
        run([40, 39, 38], 3, breaks=3)
    assert run([37, 36], 3) == 4
    capsys.readouterr()
    assert run([], 3) == 4
    assert "stopped early: top1 37 has not improved for 3 validations, best 40 in epoch_1" in capsys.readouterr().err
    assert run([36, 41, 20, 20, 20], 4) == 5
    assert (tmp_path / "run/best_top1_epoch_1.pth").is_file()


def test_a_metric_that_is_not_there_is_named(run):
    with pytest.raises(UserError, match=r"early_stopping.monitor.*mAP.*top1"):
        run([40], dict(patience=2, monitor="mAP"))


@pytest.mark.parametrize("value", [0, -1, True, math.nan, 2.5, "five", [3], dict(patience=0), dict(min_delta=-1)])
def test_other_values_are_refused(value, images):
    with pytest.raises(UserError, match=r"early_stopping.*; allowed: ") as error:
        load_config(RECIPE, validated_options_for(images, 0, early_stopping=value))
    assert "\n" not in str(error.value)


def test_the_option_goes_in_and_out(images):
    def hooks(**options):
        cfg = load_config(RECIPE, validated_options_for(images, 0, custom_hooks=[], **options))
        return [hook for hook in cfg.custom_hooks if hook.type == StopEarlyHook.__name__]

    (hook,) = hooks(early_stopping=4, **{"default_hooks.checkpoint": dict(save_best="top5", rule="greater")})
    assert (hook.patience, hook.monitor, hook.rule) == (4, "top5", "greater")
    assert hooks(early_stopping=False) == [] and hooks() == []
    for saving in ({}, dict(save_best=None), dict(save_best="auto")):  # the best checkpoint is kept, unless told not to
        checkpoint = {"default_hooks.checkpoint": dict(_delete_=True, type="CheckpointHook") | saving}
        cfg = load_config(RECIPE, validated_options_for(images, 0, custom_hooks=[], early_stopping=4, **checkpoint))
        complete(cfg)
        assert cfg.default_hooks.checkpoint.save_best == saving.get("save_best", "auto")
        assert cfg.custom_hooks[-1].get("keep_best", False) is (not saving)
        cfg.early_stopping = False
        complete(cfg)
        assert ("save_best" in cfg.default_hooks.checkpoint) is bool(saving)
    with pytest.raises(UserError, match="early_stopping counts validations, and the config has no val_dataloader"):
        hooks(early_stopping=2, val_dataloader=None, val_cfg=None, val_evaluator=None)


def test_the_best_checkpoint_of_the_metric_stays(run, tmp_path):
    """mmengine's "auto" would take the first metric, top1. A resumed run goes on with the same one."""
    checkpoint = {"default_hooks.checkpoint": dict(_delete_=True, type="CheckpointHook", interval=1, max_keep_ckpts=1)}
    option = dict(patience=2, monitor="loss_val")
    with pytest.raises(KeyboardInterrupt):
        run([40, 41], option, breaks=2, **checkpoint)
    assert run([42], option, **checkpoint) == 3
    assert sorted(path.name for path in (tmp_path / "run").glob("*.pth")) == [
        "best_loss_val_epoch_1.pth",
        "epoch_3.pth",
    ]

"""The console has one line an epoch, with what a person looks for, and lines in between only where work is slow."""

import io
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT
from mmengine.logging import MessageHub
from PIL import Image
from torch.utils.data import DataLoader

from ziggurat.engine import progress
from ziggurat.engine.config import load_config
from ziggurat.engine.progress import ProgressHook, main_scores
from ziggurat.engine.run import build_training
from ziggurat.engine.tasks import TASKS, task_for

DEMO = ROOT / "classification/configs/demo/van_b0_digits.py"
EPOCH = re.compile(
    r"epoch (?P<epoch>\d)/3  loss (?P<loss>[\d.]+)  lr (?P<lr>\S+)(?P<metrics>(  \w+ [\d.]+)*)"
    r"  step [\d.]+ s  loader [\d.]+ s  took (?P<took>\d:\d\d)  eta (?P<eta>\d:\d\d)"
)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root, pixels = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for i in range(2):
                Image.fromarray(pixels.integers(0, 256, (32, 32, 3), np.uint8)).save(root / split / name / f"{i}.png")
    return root


def three_epochs(images, work_dir, **options):
    """Trains three epochs of two steps, with averaged weights, and validates the second and the third."""
    options = {
        "data_root": str(images),
        "train_cfg": dict(_delete_=True, type="EpochBasedTrainLoop", max_epochs=3, val_interval=2),
        "train_dataloader.batch_size": 2,
        "train_dataloader.num_workers": 0,
        "train_dataloader.persistent_workers": False,
        "train_dataloader.dataset.transform": dict(_delete_=True, is_training=False, input_size=32, crop_pct=1.0),
        "custom_hooks": [dict(type="EMAHook", ema_type="ExponentialMovingAverage"), dict(type="RawMetricsHook")],
        "default_hooks.logger.interval": 1,
        "log_processor.window_size": 1,
        **options,
    }
    build_training(load_config(DEMO, options), work_dir, device="cpu").train()


def test_an_epoch_has_exactly_one_line(images, tmp_path, capfd, cut_depths):
    cut_depths("van_b0", (1, 1, 1, 1))
    three_epochs(images, tmp_path)
    first, *lines, last = capfd.readouterr().out.splitlines()
    assert first.startswith("training for 6 iterations; log: ") and last.startswith("trained in 0:0")
    found = [EPOCH.fullmatch(line) for line in lines]
    assert all(found), lines
    assert [one["epoch"] for one in found] == ["1", "2", "3"] and found[-1]["eta"] == "0:00"
    shown = [dict(pair.split() for pair in one["metrics"].split("  ") if pair) for one in found]
    assert [list(one) for one in shown] == [[], *[["top1", "raw_top1"]] * 2]

    log = [json.loads(line) for line in next(tmp_path.glob("*/vis_data/scalars.json")).read_text().splitlines()]
    train = [line for line in log if "loss" in line]
    for i, one in enumerate(found):
        steps = train[2 * i : 2 * i + 2]
        assert float(one["loss"]) == pytest.approx(np.mean([step["loss"] for step in steps]), abs=1e-4)
        assert float(one["lr"]) == pytest.approx(steps[-1]["lr"], rel=5e-3)
    for one, line in zip(shown[1:], [line for line in log if "top1" in line], strict=True):
        assert float(one["raw_top1"]) == pytest.approx(line["raw_top1"], rel=1e-3)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def runner(monkeypatch):
    """A training of two epochs of four steps, without a network; and a clock whose ``now`` can be set."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(progress, "by_epoch", lambda runner: runner.epochs)
    monkeypatch.setattr(progress, "loaded_lines", lambda model: [])
    hub = MessageHub("progress")
    hub.update_scalar("train/loss", 2.0)
    return SimpleNamespace(
        message_hub=hub, model=None, clock=clock, epochs=True, epoch=0, max_epochs=2, iter=0, max_iters=8, work_dir="w",
        logger=SimpleNamespace(log_file="x.log"), train_dataloader=DataLoader(range(8), 2), val_dataloader=range(3),
    )  # fmt: skip


def drive(runner, seconds, out, pause=30.0):
    """All calls of a training whose steps take so many seconds; returns the hook."""
    hook = ProgressHook(2, ["top1"], pause)
    hook.out = out
    hook.before_train(runner)
    for runner.epoch in range(2):
        if runner.epochs:
            hook.before_train_epoch(runner)
        for _ in range(4):
            runner.clock.now += seconds
            hook.after_train_iter(runner, 0)
            runner.iter += 1
        hook.after_train_epoch(runner) if runner.epochs else None
        hook.before_val_epoch(runner)
        for i in range(3):
            hook.after_val_iter(runner, i)
        hook.after_val_epoch(runner, {"top1": 50.0, "other": 1.0})
    hook.after_train(runner)
    return hook


@pytest.mark.parametrize(("seconds", "between"), [(1, []), (20, [2, 4, 6, 8]), (40, [*range(1, 9)])])
def test_lines_in_between_come_where_steps_are_slow(seconds, between, runner):
    drive(runner, seconds, out := io.StringIO())
    lines = out.getvalue().splitlines()
    steps = [
        int(re.match(r"train (\d)/8  epoch \d/2  loss 2.0000  eta ", line)[1]) for line in lines if "train " in line
    ]
    assert steps == between
    assert [line for line in lines if line.startswith("epoch")] == [
        f"epoch 1/2  loss 2.0000  top1 50  took {progress.clock(4 * seconds)}  eta {progress.clock(4 * seconds)}",
        f"epoch 2/2  loss 2.0000  top1 50  took {progress.clock(4 * seconds)}  eta 0:00",
    ]


def test_a_training_by_iterations_shows_its_first_and_last_step_and_validations(runner):
    runner.epochs = False
    drive(runner, 1, out := io.StringIO())
    lines = out.getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines[1:-1]] == ["train 1/8", "val", "train 8/8", "val"]
    assert lines[2] == "val    iteration 4  top1 50  other 1"


def test_a_terminal_has_a_bar_and_the_same_line_an_epoch(runner):
    hook = drive(runner, 40, out := Terminal())
    assert not hook.bars
    text = out.getvalue()
    assert "epoch 1/2  loss 2.0000, " not in text and "8/8" in text and "epoch 2/2  loss 2.0000]" in text
    assert text.count("  took ") == 2 and "val   " not in text.replace("val:", "")


def test_main_metrics_come_first_beside_those_of_the_trained_weights():
    metrics = {"coco/bbox_mAP": 0.4, "raw_coco/bbox_mAP": 0.375, "coco/bbox_mAP_s": 0.1, "text": "x"}
    assert main_scores(metrics, ["coco/bbox_mAP"]) == "bbox_mAP 0.4  raw_bbox_mAP 0.375"
    assert main_scores({f"m{i}": i for i in range(9)}, ["top1"]) == "m0 0  m1 1  m2 2  m3 3"
    assert main_scores({"coco/bbox_mAP_s": None, "other": 1}, ["coco/bbox_mAP_s"]) == "bbox_mAP_s none"


@pytest.mark.parametrize("task", TASKS)
def test_each_task_says_which_metrics_are_main(task):
    assert task_for(SimpleNamespace(get=lambda *_: dict(imports=[task]))).main_metrics

"""A run's curves reach TensorBoard, W&B and MLflow. A tracker that is absent is said at once, and none ends a training.

W&B and MLflow are stand-ins here, packages in a folder of their own that record what they are told.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from backbones import UserError
from tools import train
from ziggurat.engine import trackers
from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_training
from ziggurat.engine.trackers import use_trackers

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "classification/configs/demo/van_b0_digits.py"
WANDB = """
import types
calls, fail = [], False

def init(**how):
    calls.append(("init", how))
    return Run(how.get("id") or "run1")

class Run:
    def __init__(self, id):
        self.id = id
    def define_metric(self, name, step_metric):
        calls.append(("axis", name, step_metric))
    def log(self, values):
        if fail:
            raise ConnectionError("no  network")
        calls.append(("log", values))
    def finish(self):
        calls.append(("finish",))
"""
MLFLOW = """
from types import SimpleNamespace
calls = []

class MlflowClient:
    def __init__(self, uri):
        calls.append(("uri", uri))
    def get_experiment_by_name(self, name):
        return None
    def create_experiment(self, name):
        calls.append(("experiment", name))
        return "7"
    def create_run(self, group, run_name, tags):
        calls.append(("run", group, run_name))
        return SimpleNamespace(info=SimpleNamespace(run_id="abc"))
    def update_run(self, id, status):
        calls.append(("again", id, status))
    def log_batch(self, id, metrics=(), params=()):
        calls.extend(("metric", id, *metric) for metric in metrics)
        calls.extend(("param", *param) for param in params)
    def log_text(self, id, text, name):
        calls.append(("text", name))
    def set_terminated(self, id):
        calls.append(("end", id))
"""
ENTITIES = """
def Metric(name, value, moment, step):
    return name, value, step
def Param(name, value):
    return name, value
"""


@pytest.fixture
def standins(tmp_path, monkeypatch):
    """The modules ``wandb`` and ``mlflow``, whose ``calls`` list what happened."""
    for name, texts in {"wandb": {"__init__": WANDB}, "mlflow": {"__init__": MLFLOW, "entities": ENTITIES}}.items():
        for file, text in texts.items():
            path = tmp_path / "packages" / name / f"{file}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    for name in [name for name in sys.modules if name.split(".")[0] in ("wandb", "mlflow")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("WANDB_PROJECT", "WANDB_NAME", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_NAME"):
        monkeypatch.delenv(name, raising=False)
    import mlflow
    import wandb

    yield wandb, mlflow
    for name in ("wandb", "mlflow", "mlflow.entities"):
        sys.modules.pop(name, None)


@pytest.fixture(autouse=True)
def small(cut_depths):
    cut_depths("van_b0", (1, 1, 1, 1))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root, pixels = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for i in range(2):
                Image.fromarray(pixels.integers(0, 256, (32, 32, 3), np.uint8)).save(root / split / name / f"{i}.png")
    return root


def trained(images, work_dir, epochs=1, resume=None, **options):
    """A training of two steps an epoch, with a line of scalars for each step. Returns the work dir."""
    options = {
        "data_root": str(images),
        "train_cfg": dict(_delete_=True, type="EpochBasedTrainLoop", max_epochs=epochs, val_interval=1),
        "train_dataloader.batch_size": 2,
        "train_dataloader.num_workers": 0,
        "train_dataloader.persistent_workers": False,
        "train_dataloader.dataset.transform": dict(_delete_=True, is_training=False, input_size=32, crop_pct=1.0),
        "default_hooks.logger.interval": 1,
        **options,
    }
    build_training(load_config(DEMO, options), work_dir, resume=resume, device="cpu").train()
    return work_dir


def json_lines(work_dir):
    lines = next(work_dir.glob("*/vis_data/scalars.json")).read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_tensorboard_has_the_scalars_of_the_json_lines(images, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    work_dir = trained(images, tmp_path / "run", epochs=2)
    (folder,) = {path.parent for path in work_dir.rglob("events.out.tfevents.*")}
    events = EventAccumulator(str(folder)).Reload()
    train = [line for line in json_lines(work_dir) if "iter" in line]
    val = [line for line in json_lines(work_dir) if "iter" not in line]
    assert [line["step"] for line in train] == [1, 2, 3, 4] and [line["step"] for line in val] == [1, 2]
    for part, lines, names in (("train", train, ["loss", "lr", "grad_norm"]), ("val", val, ["top1"])):
        for name in names:
            found = [(event.step, event.value) for event in events.Scalars(f"{part}/{name}")]
            expected = [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in lines]
            assert found == expected, name
    assert not {"loss", "top1", "train/iter", "train/epoch", "train/top1"} & set(events.Tags()["scalars"])
    assert "data_root" in events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()


def test_wandb_and_mlflow_get_the_curves_and_go_on_after_a_resume(images, tmp_path, standins):
    wandb, mlflow = standins
    work_dir = trained(images, tmp_path / "roads", epochs=2, track=["wandb", "mlflow"])
    lines = json_lines(work_dir)
    train, val = [line for line in lines if "iter" in line], lines[2]
    (_, how), *_ = wandb.calls
    assert (how["project"], how["name"], how["dir"]) == ("ziggurat", "roads", str(work_dir)) and "id" not in how
    assert how["config"]["train_cfg"]["max_epochs"] == 2
    assert wandb.calls[1:3] == [("axis", "train/*", "iteration"), ("axis", "val/*", "epoch")]
    logged = [call[1] for call in wandb.calls if call[0] == "log"]
    assert [(one["iteration"], one["train/loss"]) for one in logged[:2]] == [(n["step"], n["loss"]) for n in train[:2]]
    assert (logged[2]["epoch"], logged[2]["val/top1"]) == (1, val["top1"]) and wandb.calls[-1] == ("finish",)

    assert mlflow.calls[:3] == [("uri", None), ("experiment", "ziggurat"), ("run", "7", "roads")]
    losses = [(call[3], call[4]) for call in mlflow.calls if call[:3] == ("metric", "abc", "train/loss")]
    assert losses == [(n["loss"], n["step"]) for n in train] and ("metric", "abc", "val/top1", val["top1"], 1) in (
        mlflow.calls
    )
    assert ("param", "train_dataloader.batch_size", "2") in mlflow.calls and mlflow.calls[-1] == ("end", "abc")
    assert ("text", "config.py") in mlflow.calls

    for module in standins:
        module.calls.clear()
    (work_dir / "epoch_2.pth").unlink()
    trained(images, work_dir, epochs=2, resume=True, track=["wandb", "mlflow"])
    assert (wandb.calls[0][1]["id"], wandb.calls[0][1]["resume"]) == ("run1", "allow")
    assert mlflow.calls[1] == ("again", "abc", "RUNNING")
    assert {call[1] for call in mlflow.calls if call[0] == "metric"} == {"abc"}


def test_a_tracker_that_fails_does_not_end_the_training(images, tmp_path, standins, capsys):
    wandb, _ = standins
    wandb.fail = True
    work_dir = trained(images, tmp_path / "run", track="wandb")
    notes = [line for line in capsys.readouterr().err.splitlines() if "W&B" in line]
    assert notes == [
        "note: W&B stopped: ConnectionError: no network; the training goes on without it",
    ]
    assert len(json_lines(work_dir)) == 3 and (work_dir / "epoch_1.pth").is_file()


def test_a_tracker_that_cannot_start_is_one_line_before_the_training(images, tmp_path, standins, monkeypatch):
    def init(**how):
        raise RuntimeError("No API key configured.\nUse `wandb login`")

    monkeypatch.setattr(standins[0], "init", init)
    message = "W&B cannot start: RuntimeError: No API key configured. Use `wandb login`$"
    with pytest.raises(UserError, match=message):
        trained(images, tmp_path / "run", track="wandb")
    assert not list(tmp_path.rglob("*.pth"))


def config(*types, **keys):
    backends = [dict(type=name) for name in types]
    return Config(dict(train_dataloader={}, visualizer=dict(type="Visualizer", vis_backends=backends), **keys))


def kept(cfg):
    use_trackers(cfg)
    return [backend.type for backend in cfg.visualizer.vis_backends]


def test_what_is_not_installed_is_said(monkeypatch, capsys):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    assert kept(config("LocalVisBackend", "TensorboardVisBackend")) == ["JsonLines"]
    said = capsys.readouterr().err
    assert said.startswith("note: no TensorBoard files, since it is not installed (pip install tensorboard); ")
    assert said.count("\n") == 1
    for cfg, title, package in (
        (config("mmengine.WandbVisBackend"), "W&B", "wandb"),
        (config(track="mlflow"), "MLflow", "mlflow"),
        (config("ClearMLVisBackend"), "ClearML", "clearml"),
    ):
        with pytest.raises(UserError, match=f"{title} is not installed; pip install {package}, or leave it out"):
            use_trackers(cfg)


def test_json_lines_are_always_written_and_a_tracker_comes_once(standins):
    assert kept(config("TensorboardVisBackend")) == ["JsonLines", "TensorBoard"]
    assert kept(config("LocalVisBackend", "WandbVisBackend", track=["wandb"])) == [
        "JsonLines",
        "WeightsAndBiases",
    ]
    assert kept(Config(dict(train_dataloader={}, track="mlflow"))) == ["JsonLines", "MLflow"]
    again = config("TensorboardVisBackend")
    assert kept(again) == kept(again)
    with pytest.raises(UserError, match=r"unknown tracker 'wandbb'.*wandb"):
        use_trackers(config(track="wandbb"))


def test_a_test_has_no_trackers():
    cfg = config("LocalVisBackend", "TensorboardVisBackend", track="wandb")
    cfg.train_dataloader = None
    assert kept(cfg) == ["JsonLines"]


def test_every_config_of_ours_writes_tensorboard_files():
    for task in ("classification", "detection", "segmentation"):
        cfg = Config.fromfile(ROOT / task / "configs/_base_/runtime.py", import_custom_modules=False)
        assert [one.type for one in cfg.visualizer.vis_backends] == ["LocalVisBackend", "TensorboardVisBackend"]


def test_the_option_of_the_tool_is_one_of_the_config(monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "argv", ["train.py", str(DEMO), "--track", "wandb", "--track", "mlflow"])
    monkeypatch.setattr(
        "ziggurat.engine.run.build_training", lambda cfg, *a, **k: seen.append(cfg) or pytest.fail("built")
    )
    with pytest.raises(BaseException, match="built"):
        train.main()
    assert seen[0].track == ["wandb", "mlflow"]

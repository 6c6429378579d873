"""Numbers that no loader or loop can use, and files that are no config: one line before anything is built."""

import importlib
import json
from pathlib import Path

import pytest
import torch
from helpers import run
from PIL import Image

from backbones import UserError
from ziggurat.engine.config import load_config

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = [
    "classification/configs/demo/van_b0_digits.py",
    "detection/configs/demo/mask_rcnn_van_b0_digits.py",
    "segmentation/configs/demo/semantic_fpn_van_b0_digits.py",
]


@pytest.mark.parametrize(
    ("option", "least"),
    [
        ("train_dataloader.batch_size=-1", "1 up, auto"),
        ("train_dataloader.batch_size=0", "1 up, auto"),
        ("train_dataloader.batch_size='8'", "1 up, auto"),
        ("train_dataloader.batch_size=2.5", "1 up, auto"),
        ("val_dataloader.batch_size=0", "1 up"),
        ("test_dataloader.batch_size=0", "1 up"),
        ("train_dataloader.num_workers=-1", "0 up"),
        ("val_dataloader.num_workers=x", "0 up"),
        ("train_cfg.max_epochs=0", "1 up"),
        ("train_cfg.max_epochs=-1", "1 up"),
        ("train_cfg.val_interval=0", "1 up"),
        ("optim_wrapper.accumulative_counts=0", "1 up"),
        ("optim_wrapper.accumulative_counts='2'", "1 up"),
        ("default_hooks.checkpoint.interval=0", "1 up"),
        ("default_hooks.checkpoint.interval=1.5", "1 up"),
        ("default_hooks.checkpoint.max_keep_ckpts=0", "1 up"),
        ("default_hooks.logger.interval=0", "1 up"),
        ("log_processor.window_size=0", "1 up"),
    ],
)
def test_a_bad_number_is_named_as_it_was_typed(option, least, tmp_path, config=CONFIGS[0]):
    name, _, value = option.partition("=")
    with pytest.raises(UserError) as error:
        load_config(ROOT / config, [f"data_root={tmp_path}", option])
    assert str(error.value) in (
        f"{name} is {value}; allowed: integers from {least}",
        f"{name} is {value!r}; allowed: integers from {least}",
    )


@pytest.mark.parametrize("config", CONFIGS[1:])
def test_every_task_checks_its_numbers(config, tmp_path):
    test_a_bad_number_is_named_as_it_was_typed("train_dataloader.batch_size=0", "1 up, auto", tmp_path, config)


@pytest.mark.parametrize("seed", ["-1", "1.5", "abc", str(2**32)])
def test_a_seed_is_one_that_all_libraries_take(seed, tmp_path):
    with pytest.raises(UserError, match=r"^randomness\.seed is '?[-\w.]+'?; allowed: integers from 0 to 4294967295$"):
        load_config(ROOT / CONFIGS[0], [f"data_root={tmp_path}", f"randomness.seed={seed}"])


@pytest.mark.parametrize("limit", ["0", "-1", "nan", "abc", "True", "None"])
@pytest.mark.parametrize("name", ["max_norm", "clip_value"])
def test_a_limit_of_gradients_is_above_zero(name, limit, tmp_path):
    option = f"optim_wrapper.clip_grad.{name}={limit}"
    with pytest.raises(UserError, match=rf"^optim_wrapper\.clip_grad\.{name} is '?{limit}'?; allowed: numbers above 0"):
        load_config(ROOT / CONFIGS[1], [f"data_root={tmp_path}", option])


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("optim_wrapper=x", r"optim_wrapper is 'x'; allowed: dict\(\.\.\.\), None"),
        ("default_hooks=2.5", r"default_hooks is 2\.5; allowed: dict\("),
        ("default_hooks.logger=1", r"default_hooks\.logger is 1; allowed: dict\(type"),
        ("train_dataloader.dataset.pipeline=x", r"train_dataloader\.dataset\.pipeline is 'x'; allowed: a list of dict"),
        ("custom_hooks=[1]", r"custom_hooks is \[1\]; allowed: a list of dict"),
        ("param_scheduler=[1,2]", r"param_scheduler is \[1, 2\]; allowed: dict\("),
        ("default_scope=2.5", r"default_scope is 2\.5; allowed: a text, None"),
        ("auto_scale_lr.enable=1", r"auto_scale_lr\.enable is 1; allowed: True, False, None"),
        ("custom_imports.imports=[1]", r"custom_imports\.imports is \[1\]; allowed: a list of texts"),
    ],
)
@pytest.mark.parametrize("config", CONFIGS[:2])
def test_a_part_of_another_kind_is_named(config, option, words, tmp_path):
    with pytest.raises(UserError, match=f"^{words}"):
        load_config(ROOT / config, [f"data_root={tmp_path}", option])


def test_limits_of_gradients_and_kinds_of_batch_norm_are_kept(tmp_path):
    for option in ("clip_grad.max_norm=0.01", "clip_grad.max_norm=inf", "clip_grad=None"):
        load_config(ROOT / CONFIGS[1], [f"data_root={tmp_path}", f"optim_wrapper.{option}"])
    for kind in ("torch", "mmcv", None, False):
        assert load_config(ROOT / CONFIGS[1], [f"data_root={tmp_path}", f"sync_bn={kind}"]).sync_bn == kind


@pytest.mark.parametrize("kind", ["True", "apex", "1"])
def test_a_batch_norm_of_several_gpus_is_known_before(kind, tmp_path):
    with pytest.raises(UserError, match=rf"^sync_bn is '?{kind}'?; allowed: torch, mmcv, None$"):
        load_config(ROOT / CONFIGS[1], [f"data_root={tmp_path}", f"sync_bn={kind}"])


def test_numbers_at_their_least_are_allowed(tmp_path):
    options = ["train_dataloader.num_workers=0", "val_dataloader.batch_size=1", "train_cfg.val_interval=1"]
    options += ["default_hooks.checkpoint.interval=-1", "default_hooks.checkpoint.max_keep_ckpts=-1"]
    options += ["randomness.seed=None"]
    cfg = load_config(ROOT / CONFIGS[0], [f"data_root={tmp_path}", *options])
    assert cfg.train_dataloader.num_workers == 0 and cfg.test_dataloader.batch_size == 1


# --- files that are no config


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    torch.save({"state_dict": {}}, "epoch_1.pth")
    for name in ("van.safetensors", "van.pth.tar", "notes.txt"):
        Path(name).write_bytes(b"x")
    Image.new("RGB", (32, 32)).save("cat.PNG")
    Path("coco.json").write_text(json.dumps({"images": [], "annotations": []}))
    Path("list.yaml").write_text("- 1")


@pytest.mark.parametrize(
    ("file", "what"),
    [
        ("folder", "folder is a folder"),
        ("epoch_1.pth", "epoch_1.pth is a file of weights"),
        ("van.safetensors", "van.safetensors is a file of weights"),
        ("van.pth.tar", "van.pth.tar is a file of weights"),
        ("cat.PNG", "cat.PNG is an image"),
        ("notes.txt", "notes.txt is no config"),
        ("coco.json", "coco.json is no config, since it names neither a model nor a _base_"),
        ("list.yaml", "list.yaml is no config, since it names neither a model nor a _base_"),
    ],
)
def test_what_is_no_config_is_named(file, what, files):
    with pytest.raises(UserError) as error:
        load_config(file)
    assert str(error.value) == f"{what}; a config is needed here, a file that ends in .py, .json, .yaml, .yml"


@pytest.mark.parametrize("tool", ["train", "browse_dataset", "print_config"])
def test_tools_that_take_a_config_say_so(tool, files, monkeypatch, capsys):
    status, _, err = run(importlib.import_module(tool), ["epoch_1.pth"], monkeypatch, capsys)
    assert status == 2 and err.startswith("error: epoch_1.pth is a file of weights; a config is needed here")
    assert err.count("\n") == 1


def test_a_whole_config_in_json_is_read(tmp_path):
    load_config(ROOT / CONFIGS[0], [f"data_root={tmp_path}"]).dump(str(tmp_path / "run.json"))
    assert load_config(tmp_path / "run.json").model.backbone.arch == "van_b0"

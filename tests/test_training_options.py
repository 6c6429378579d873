"""Averaged weights, clipped gradients, recomputed activations, norms over processes: one option each, dense tasks."""

import copy
import re

import dense_data
import pytest
import torch
from conftest import ROOT
from mmengine.hooks import EMAHook
from mmengine.model import MomentumAnnealingEMA
from paper_run import RECIPE, write_images

from backbones import UserError
from backbones.errors import arguments_of
from ziggurat.engine.complete import complete
from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_training
from ziggurat.engine.tasks import TASKS
from ziggurat.engine.training_options import OPTIONS

LEAVES = {
    "detection": ROOT / "detection/configs/van/retinanet_van_b0_fpn_1x_coco.py",
    "segmentation": ROOT / "segmentation/configs/van/upernet_van_b0_512x512_160k_ade20k.py",
}
AVERAGED = ROOT / "detection/configs/van/rtmdet_van_b1_300e_coco.py"
SLIM = {
    "detection": {
        "model.neck.out_channels": 16,
        "model.bbox_head.in_channels": 16,
        "model.bbox_head.feat_channels": 16,
        "model.bbox_head.stacked_convs": 1,
        **dense_data.small_coco_pipelines(with_mask=False),
    },
    "segmentation": {
        "classes": ["box", "disc", "background"],
        "model.decode_head.channels": 16,
        "model.auxiliary_head.channels": 16,
        **dense_data.small_mask_pipelines(),
    },
}
both = pytest.mark.parametrize("task", LEAVES)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return {
        "detection": dense_data.write_coco(folder / "coco"),
        "segmentation": dense_data.write_masks(folder / "masks"),
    }


@pytest.fixture(autouse=True)
def shallow(cut_depths):
    cut_depths("van_b0", (1, 1, 1, 1))


def build(task, data, work_dir, iters=1, **options):
    """A run of a few steps of SGD at rate 1, so that a step is the gradient."""
    absent = {f"{split}_{part}": None for split in ("val", "test") for part in ("dataloader", "evaluator", "cfg")}
    given = {
        "data_root": str(data[task]),
        "model.backbone.pretrained": None,
        "model.backbone.drop_path_rate": 0.0,
        "train_cfg": dict(_delete_=True, type="IterBasedTrainLoop", max_iters=iters),
        "param_scheduler": [],
        "optim_wrapper.optimizer": dict(_delete_=True, type="SGD", lr=1.0, weight_decay=0.0),
        "default_hooks.checkpoint": dict(_delete_=True, type="CheckpointHook", by_epoch=False, interval=iters),
        "default_hooks.logger.interval": 1,
        "log_processor.by_epoch": False,
        "randomness": dict(seed=0),
        **dense_data.SMALL_LOADERS,
        **copy.deepcopy(SLIM[task]),
    }
    given = {key: value for key, value in given.items() if not key.startswith("val_")} | absent
    return build_training(load_config(LEAVES[task], given | options), work_dir, device="cpu")


def train(runner):
    """Trains, and returns the weights and buffers before the first step and after each step."""
    model, states = runner.model, []
    step = model.train_step

    def watched(*args, **kwargs):
        states.append(copy.deepcopy(model.state_dict()))
        return step(*args, **kwargs)

    model.train_step = watched
    runner.train()
    return states


@both
def test_clipped_gradients_have_the_largest_norm_that_is_allowed(task, data, tmp_path):
    runner = build(task, data, tmp_path, iters=2, **{"optim_wrapper.clip_grad.max_norm": 0.01})
    before, after = train(runner)
    names = [name for name, _ in runner.model.named_parameters()]
    step = torch.cat([(after[name] - before[name]).flatten() for name in names])
    assert float(step.norm()) == pytest.approx(0.01, rel=1e-2)
    assert runner.message_hub.get_scalar("train/grad_norm").data[0][0] > 0.02  # that of the gradients before


@both
def test_recomputed_activations_give_the_same_step(task, data, tmp_path):
    results = []
    for saving in (False, True):
        runner = build(task, data, tmp_path / str(saving), iters=2, **{"model.backbone.grad_checkpointing": saving})
        assert runner.model.backbone.grad_checkpointing is saving
        results.append(train(runner)[1])
    for name, value in results[0].items():
        assert torch.allclose(value, results[1][name], atol=1e-5), name


@both
def test_averaged_weights_are_saved(task, data, tmp_path):
    """The average after two steps, by the rule of its class; the first step's weights begin it."""
    runner = build(task, data, tmp_path, iters=3, ema=0.4, **{"optim_wrapper.optimizer.lr": 0.01})
    _, first, second = train(runner)
    last = torch.load(tmp_path / "iter_3.pth", weights_only=True)
    hook = next(hook for hook in runner.hooks if isinstance(hook, EMAHook))
    assert isinstance(hook.ema_model, MomentumAnnealingEMA) and hook.ema_model.momentum == 0.4
    states = [first, second, last["ema_state_dict"]]  # mmengine keeps the raw weights there
    average = first
    for steps, new in enumerate(states[1:], 1):
        share = max(0.4, 100 / (100 + steps))
        average = {k: (1 - share) * v + share * new.get(k, new.get(f"module.{k}")) for k, v in average.items()}
    saved = last["state_dict"]
    for name, value in average.items():
        if saved[name].is_floating_point():
            assert torch.allclose(saved[name], value, atol=1e-5), name


def test_an_average_is_taken_in_and_out(data):
    def hooks(leaf, value, **options):
        cfg = load_config(leaf, {"ema": value, **options})
        once = cfg.to_dict()
        complete(cfg)
        assert cfg.to_dict() == once
        return [hook for hook in cfg.custom_hooks or [] if hook.type == "EMAHook"]

    for leaf in LEAVES.values():
        (hook,) = hooks(leaf, True)
        assert hook.momentum == 2e-4 and hook.update_buffers
    (hook,) = hooks(AVERAGED, True)
    assert hook.ema_type == "ExpMomentumEMA"  # the recipe's own
    assert hooks(AVERAGED, 0.001)[0].momentum == 0.001 and hooks(AVERAGED, False) == []
    (hook,) = hooks(LEAVES["detection"], True, **{"optim_wrapper.accumulative_counts": 4})
    assert hook.interval == 4
    for value in (0, 1.5, "yes"):
        with pytest.raises(UserError, match=f"ema={value!r}; allowed: True, False, or the newest weights' share"):
            hooks(LEAVES["detection"], value)


def test_norms_are_synchronised_over_gpus_alone(data, tmp_path):
    """One process, or the CPU, has plain batch norm; so has a model whose config names SyncBN."""
    cfg = load_config(LEAVES["segmentation"])
    assert cfg.sync_bn == "torch" and cfg.model.decode_head.norm_cfg.type == "BN"
    norm = {f"model.{head}.norm_cfg.type": "SyncBN" for head in ("decode_head", "auxiliary_head")}
    runner = build("segmentation", data, tmp_path, **norm)
    kinds = {type(module).__name__ for module in runner.model.decode_head.modules() if "Norm" in type(module).__name__}
    assert kinds and not any("Sync" in kind for kind in kinds)
    runner.train()


@both
def test_options_of_the_readme_are_taken(task, data):
    text = (ROOT / task / "README.md").read_text().split("## Training options")[1].split("\n## ")[0]
    options = re.findall(r"^\| `(.+?)` \|", text, re.MULTILINE)
    leaf = ROOT / "detection/configs/van/mask_rcnn_van_b0_fpn_1x_coco.py" if task == "detection" else LEAVES[task]
    root = f"data_root={data[task]}"
    options += re.findall(r"class_weight=\[.*?\]", text)
    classes = ["classes=[box,disc,background]"] if task == "segmentation" else []
    assert len(options) > 5 and "class_weight=[" in options[-1]
    for option in options:
        load_config(leaf, [root, option, *classes])


def test_options_of_classification_are_taken(tmp_path):
    text = (ROOT / "classification/README.md").read_text().split("## Training options")[1].split("\n## ")[0]
    options = re.findall(r"^\| `(.+?)` \|", text, re.MULTILINE)
    assert {option.split("=")[0] for option in options} | {"replaced_losses"} == {
        name for name, tasks in OPTIONS.items() if "classification" in tasks
    }
    for option in options:
        load_config(RECIPE, [f"data_root={write_images(tmp_path / option[:4])}", option])


@pytest.mark.parametrize("task", TASKS)
def test_every_option_is_in_the_table(task):
    """``legend`` belongs to the layouts of masks."""
    text = (ROOT / task / "README.md").read_text()
    for name in [name for name, tasks in OPTIONS.items() if task in tasks and name != "replaced_losses"]:
        assert re.search(rf"^\| `{name}=|[`\"]{name}=", text, re.MULTILINE), name


def test_losses_that_take_weights_are_all_named():
    from mmseg.models import losses

    text = (
        (ROOT / "segmentation/README.md").read_text().split("Losses that take weights are")[1].split(", and those")[0]
    )
    takers = {
        name
        for name, kind in vars(losses).items()
        if isinstance(kind, type) and issubclass(kind, torch.nn.Module) and "class_weight" in arguments_of(kind)
    }
    assert set(re.findall(r"`(\w+)`", text)) == takers

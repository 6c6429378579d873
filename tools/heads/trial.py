"""One row of the table: a config with one of our networks trains a step and predicts, on the CPU."""

import copy
import random
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batches import detection_batch, segmentation_batch
from mmengine.config import Config, ConfigDict
from mmengine.logging import MessageHub
from mmengine.model import revert_sync_batchnorm
from swap import SIZE, swapped, unchanged
from torch import Tensor, distributed, nn

from backbones import PyramidBackbone
from backbones.errors import one_line
from ziggurat.engine.task import Task
from ziggurat.engine.tasks import task_for

BRANCHES = ("sup", "unsup_teacher", "unsup_student")  # of semi-supervised detectors


def run(name: str) -> dict[str, Any]:
    """Tries a config with one of our networks, and if that fails with its own network.

    Returns:
        ``arch``; ``trains`` and ``tests`` (bools); for failures ``why``, the errors, and ``own``, whether the config
        trains and tests with its own network: "both", "trains", "tests" or "neither".
    """
    outcome = outcome_of(swapped, name)
    if "why" in outcome:
        own = outcome_of(unchanged, name)
        works = [step for step in STEPS if own[step]]
        outcome["own"] = {0: "neither", 1: "".join(works), 2: "both"}[len(works)]
    return outcome


def outcome_of(load: Callable[[str], tuple[Config, dict[str, Any]]], name: str) -> dict[str, Any]:
    """What becomes of a config that ``load`` reads."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    MessageHub.get_current_instance().update_info_dict(dict(iter=0, max_iters=1, epoch=0, max_epochs=1))  # as a run
    outcome: dict[str, Any] = dict.fromkeys(STEPS, False)
    try:
        cfg, special = load(name)
        batch = batch_for(cfg, special)
        task = task_for(cfg)
        with task.scoped(cfg):
            model = built(task, cfg)
            networks = [module for module in model.modules() if isinstance(module, PyramidBackbone)]
            if networks:
                outcome["arch"] = networks[0].arch
            for key, step in STEPS.items():
                try:
                    step(model, copy.deepcopy(batch))
                    outcome[key] = True
                except Exception as error:  # whatever a model raises is the row's reason
                    outcome.setdefault("why", []).append(described(error))
    except Exception as error:
        outcome["why"] = [described(error)]
    return outcome


def built(task: Task, cfg: Config) -> nn.Module:
    """The config's model, initialised and with plain batch norms, as a run of one process has it.

    mmcv's own synchronised batch norm asks for a group of processes when it is built. It gets one of one process.
    """
    if "MMSyncBN" in str(cfg.model) and not distributed.is_initialized():
        distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    model = task.build_model(cfg)
    model.init_weights()
    return revert_sync_batchnorm(model)


def described(error: Exception) -> str:
    """An error on one line; one without a message with its place."""
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return "takes more memory than a row may"
    if str(error):
        return one_line(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(last.filename).name}: {last.line}"


def batch_for(cfg: Config, special: dict[str, Any]) -> dict[str, Any]:
    """A batch with the classes that the config's heads have."""
    size = special.get("size", SIZE)
    if (cfg.default_scope or "") == "mmseg":
        return segmentation_batch(size, min(values_of(cfg.model, "num_classes")))
    classes = min([*values_of(cfg.model, "num_classes"), *values_of(cfg.model, "num_things_classes"), 80])
    stuff = sum(values_of(cfg.model, "num_stuff_classes")[:1])
    return detection_batch(
        size,
        classes,
        masks=loads_masks(cfg.get("train_dataloader")),
        proposals=cfg.model.type == "FastRCNN",
        semantic_stride=special.get("semantic_stride", 1),
        semantic_classes=classes + stuff,
    )


def loads_masks(part: Any) -> bool:
    """Whether a training set's pipeline loads masks."""
    if isinstance(part, dict | ConfigDict):
        if part.get("with_mask") or part.get("type") == "LoadPanopticAnnotations":
            return True
        part = list(part.values())
    return isinstance(part, list | tuple) and any(map(loads_masks, part))


def values_of(part: Any, key: str) -> list[int]:
    """The positive whole numbers that a config has under a key, at any depth."""
    found = []
    if isinstance(part, dict | ConfigDict):
        value = part.get(key)
        found += [value] if isinstance(value, int) and value > 0 else []
        part = list(part.values())
    for value in part if isinstance(part, list | tuple) else ():
        found += values_of(value, key)
    return found


def train(model: nn.Module, batch: dict[str, Any]) -> None:
    """A loss and its gradients. All are finite, and every parameter of the network's used stages has a gradient."""
    model.train()
    if hasattr(model, "student"):
        batch = {key: dict.fromkeys(BRANCHES, value) for key, value in copy.deepcopy(batch).items()}
    losses = model(**model.data_preprocessor(batch, True), mode="loss")
    total, parts = model.parse_losses(losses)
    check_finite({key: value for key, value in parts.items() if isinstance(value, Tensor)})
    total.backward()
    grads = {key: value.grad for key, value in model.named_parameters() if value.grad is not None}
    check_finite(grads)
    for network in (module for module in model.modules() if isinstance(module, PyramidBackbone)):
        without = [key for key, value in network.named_parameters() if value.requires_grad and value.grad is None]
        if without:
            raise ValueError(f"{len(without)} parameters of the network without a gradient, such as {without[0]}")
    model.zero_grad()


def predict(model: nn.Module, batch: dict[str, Any]) -> None:
    """A prediction for every image, all its numbers finite. Images come one by one, as mm's test loaders give them."""
    model.eval()
    outputs = []
    for i in range(len(batch["inputs"])):
        image = model.data_preprocessor({key: values[i : i + 1] for key, values in batch.items()}, False)
        with torch.no_grad():
            outputs += model(**image, mode="predict")
    if len(outputs) != len(batch["inputs"]):
        raise ValueError(f"{len(outputs)} predictions for {len(batch['inputs'])} images")
    for output in outputs:
        found = [key for key in output.all_keys() if key.startswith(("pred", "seg_logits"))]
        if not found:
            raise ValueError("a prediction without a result")
        for key in found:
            data = output.get(key)
            check_finite({f"{key}.{name}": value for name, value in data.items() if isinstance(value, Tensor)})


def check_finite(tensors: dict[str, Tensor]) -> None:
    """Raises ValueError for the first tensor with a value that is not finite."""
    for name, value in tensors.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(f"{name} is not finite")


STEPS = {"trains": train, "tests": predict}

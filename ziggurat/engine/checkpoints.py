"""Checkpoints of a run: their content and its types, loading their weights, and removing old ones."""

from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from torch import Tensor, nn

from backbones.errors import UserError, shorten
from backbones.weights import own_meta, tensors_of, with_our_names
from backbones.weights.fit import differences
from backbones.weights.load import unchanged_on_error
from backbones.weights.widen import can_widen, rule_in_words, widened
from ziggurat.engine.console import say_note
from ziggurat.engine.normalisation import statistics_of
from ziggurat.engine.structure import follow_structure
from ziggurat.engine.tasks import task_of
from ziggurat.engine.wrappers import unwrap

CURVE = 1000  # last values of each curve in a checkpoint, over which a resumed run's log takes its means


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of the network itself, by the names they have outside a wrapper."""
    return dict(unwrap(model).state_dict())


def states_of(schedulers: Any) -> Any:
    """The states of a run's schedulers: a list, or a dict of lists where there are several optimisers."""
    if isinstance(schedulers, dict):
        return {name: states_of(group) for name, group in schedulers.items()}
    return [scheduler.state_dict() for scheduler in schedulers]


def to_plain_types(value: Any) -> Any:
    """Python's own types and tensors, on their devices, all the way down. A weights-only load can read these.

    Example: ``{"a": (np.float32(0.5), Path("b"))}`` becomes ``{"a": (0.5, "b")}``.
    """
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {key: to_plain_types(part) for key, part in value.items()}
    if isinstance(value, list | set):
        return [to_plain_types(part) for part in value]
    if isinstance(value, tuple):
        return tuple(to_plain_types(part) for part in value)
    return value if value is None or isinstance(value, str | int | float | bool | bytes) else str(value)


def plain_records(message_hub: dict[str, Any]) -> dict[str, Any]:
    """A message hub's state for a checkpoint: the last values of its curves become lists.

    mmengine's own objects would need mmengine's code to be read. The log file has the whole curves.
    """
    curves = {}
    for name, buffer in message_hub["log_scalars"].items():
        values, counts = buffer.data
        curves[name] = dict(values=values[-CURVE:].tolist(), counts=counts[-CURVE:].tolist())
    return dict(log_scalars=curves, **runtime_of(message_hub))


def records_of(message_hub: dict[str, Any]) -> dict[str, Any]:
    """A message hub's state from a checkpoint, with mmengine's objects for the curves that are lists of numbers."""
    curves = {}
    for name, curve in message_hub["log_scalars"].items():
        parts = [curve.get(part) for part in ("values", "counts")] if isinstance(curve, dict) else [None, ()]
        if all(isinstance(part, list) and all(isinstance(v, int | float) for v in part) for part in parts):
            curves[name] = HistoryBuffer(*(part[: min(map(len, parts))] for part in parts))
    return dict(log_scalars=curves, **runtime_of(message_hub))


def runtime_of(message_hub: dict[str, Any]) -> dict[str, Any]:
    info = message_hub["runtime_info"]
    known = {*info, *message_hub["log_scalars"]}
    keys = {name: value for name, value in message_hub["resumed_keys"].items() if name in known}
    return dict(runtime_info=dict(info), resumed_keys=keys)


def content_of_run(content: dict[str, Any]) -> dict[str, Any]:
    """A file's content in mmengine's layout: ``state_dict`` with bare names, ``meta``, and the entries of a run.

    A file of weights alone gets an empty ``meta``.
    """
    if not isinstance(content.get("state_dict"), dict):
        content = {"state_dict": tensors_of(content), "meta": content.get("meta", {})}
    state = {name.removeprefix("module."): value for name, value in content["state_dict"].items()}
    return {**content, "state_dict": state}


def meta_of_run(model: nn.Module, cfg: Config, classes: Any) -> dict[str, Any]:
    """A run's ``meta["ziggurat"]``, by which a checkpoint describes itself; see ``backbones.weights.own_meta``.

    Args:
        model: the model, wrapped or not.
        cfg: the run's completed config.
        classes: the class names of the training data, in the order of the outputs; None if the data have none.
    """
    try:
        task = task_of(cfg)
    except UserError:  # a runner built by hand
        task = None
    model = unwrap(model)
    mean, std = statistics_of(model, cfg)
    return own_meta(model, mean, std, task=task, classes=classes, config=cfg.to_dict())


def load_state(
    model: nn.Module, state: dict[str, Any], source: str, exact: bool, own: dict[str, Any] | None = None
) -> str:
    """Loads a state dict into a model.

    Args:
        model: the model, wrapped or not. Its method ``fit_state(state, source, classes, exact)``, if there is one, may
            adapt the tensors first, e.g. those of a head for other classes, or refuse them.
        state: tensors by their names outside a wrapper. A network's may have names of a published checkpoint.
        source: the name of the weights in messages, e.g. the file's path.
        exact: whether every tensor must be there and fit.
        own: the result of ``read_own_meta`` for the checkpoint.

    Returns:
        A description of the tensors that did not fit, such as ``"2 missing (a, b)"``; "" if all fit.

    Raises:
        UserError: a tensor is missing, unexpected or of another shape. Without ``exact`` only the backbone's tensors
            count. The model is then unchanged.
    """
    model = unwrap(model)
    if hasattr(model, "fit_state"):
        state = model.fit_state(state, source, (own or {}).get("classes"), exact)
    with unchanged_on_error(model):
        follow_structure(model, state, own, exact)
        state = with_our_names(model, state, source)
        target = model.state_dict()
        if not exact:
            state = widened_state(state, target, source)
        missing = [name for name in target if name not in state and not name.endswith("num_batches_tracked")]
        unexpected = [name for name in state if name not in target]
        shapes = {
            name: (tuple(state[name].shape), tuple(target[name].shape))
            for name in target
            if name in state and target[name].shape != state[name].shape
        }
        left_out = differences("model", missing, unexpected, shapes)
        if exact and left_out:
            raise UserError(f"{source} does not fit the model: {left_out}")
        if any(name.startswith("backbone.") for name in (*missing, *unexpected, *shapes)):
            raise UserError(f"{source} does not fit the model's backbone: {left_out}")
    fits = {name: value for name, value in state.items() if name in target and name not in shapes}
    model.load_state_dict(fits, strict=False)
    return left_out


def widened_state(state: dict[str, Any], target: dict[str, Tensor], source: str) -> dict[str, Any]:
    """A state dict whose first convolution of RGB fits a backbone of other channels. A note tells what was done."""
    wide = dict(state)
    for name, ours in target.items():
        stored = state.get(name)
        if isinstance(stored, Tensor) and can_widen(name.removeprefix("backbone."), stored, ours):
            wide[name] = widened(stored, ours.shape[1])
            say_note(f"{source}: {name}, {rule_in_words(ours.shape[1])}")
    return wide


def load_published(model: nn.Module) -> None:
    """Loads the weights that the model's backbone names as ``pretrained``, with their head.

    Args:
        model: the model, not wrapped.

    Raises:
        UserError: a tensor of the model is missing in the weights, such as those of a head.
    """
    model.init_weights()
    missing = [name for name in model.backbone.load_report.missing if not name.endswith("num_batches_tracked")]
    if missing:
        raise UserError(f"{model.backbone.pretrained} is no whole model: it lacks {shorten(missing)}")

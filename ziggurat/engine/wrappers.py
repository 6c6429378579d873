"""Wrapping a model for several processes, by DDP or by a config's wrapper, and unwrapping it."""

import inspect
from typing import Any

import torch
from mmengine.model import BaseTTAModel, MMSeparateDistributedDataParallel, is_model_wrapper
from mmengine.registry import MODEL_WRAPPERS
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.parallel import DistributedDataParallel

from backbones.errors import UserError, unknown

DEFAULT = "MMDistributedDataParallel"


def wrapper_class(options: dict[str, Any] | None) -> type[nn.Module]:
    """The class that ``model_wrapper_cfg`` names, by default mmengine's DDP.

    Raises:
        UserError: the wrapper is unknown, or training and saving here cannot use it.
    """
    named = (options or {}).get("type", DEFAULT)
    found = named if inspect.isclass(named) else MODEL_WRAPPERS.get(named)
    if found is None:
        raise unknown("model_wrapper_cfg.type", named, sorted(MODEL_WRAPPERS.module_dict))
    reason = None
    if issubclass(found, FullyShardedDataParallel):
        reason = "mmengine's Runner saves in the first process only, which holds a part of the weights then"
    elif issubclass(found, MMSeparateDistributedDataParallel):
        reason = "it wraps each part of a model, and then a head can be called but not asked for its loss"
    if reason:
        raise UserError(f"model_wrapper_cfg.type {found.__name__} cannot be used: {reason}; allowed: {DEFAULT}")
    return found


def wrap(model: nn.Module, options: dict[str, Any], device: str, find_unused_parameters: bool = False) -> nn.Module:
    """The model in the wrapper that ``options``, a ``model_wrapper_cfg``, describe.

    Args:
        model: on its device already.
        options: the wrapper's arguments, and its ``type`` if it is not DDP. By default DDP gets
            ``broadcast_buffers=False``: BuffersHook averages the buffers before they are tested or saved.
        device: "cpu" or "cuda".
        find_unused_parameters: DDP's default for the option of this name.
    """
    defaults = {"type": wrapper_class(options), "module": model}
    if issubclass(defaults["type"], DistributedDataParallel):
        defaults |= {"broadcast_buffers": False, "find_unused_parameters": find_unused_parameters}
        defaults["device_ids"] = [torch.cuda.current_device()] if device == "cuda" else None
    return MODEL_WRAPPERS.build({**defaults, **options, "type": defaults["type"]})


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside DDP and inside test-time augmentation."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model

"""Optimiser wrappers: parameter groups, and mixed precision on any device."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn

from backbones.errors import UserError, arguments_of, unknown
from backbones.param_groups import param_groups


@OPTIM_WRAPPER_CONSTRUCTORS.register_module(force=True)
class ParamGroups:
    """Groups parameters by ``backbones.param_groups``: no weight decay of biases, norms and layer scales; layer decay.

    In a config::

        optim_wrapper = dict(
            constructor="ParamGroups",
            optimizer=dict(type="AdamW", lr=1e-4, weight_decay=0.05),
            paramwise_cfg=dict(layer_decay=0.7, num_layers=12),
        )

    ``paramwise_cfg`` takes the arguments of ``param_groups`` from ``layer_decay`` on. Without it all layers learn at
    ``lr``.

    Raises:
        UserError: an argument in ``paramwise_cfg`` is unknown or out of its range.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None):
        self.optim_wrapper_cfg = dict(optim_wrapper_cfg)
        self.paramwise_cfg = dict(paramwise_cfg or {})
        allowed = [name for name in arguments_of(param_groups) if name not in ("model", "lr", "weight_decay")]
        for key in self.paramwise_cfg:
            if key not in allowed:
                raise unknown("paramwise_cfg of ParamGroups", key, allowed)

    def __call__(self, model: nn.Module) -> OptimWrapper:
        model = model.module if is_model_wrapper(model) else model
        cfg = dict(self.optim_wrapper_cfg)
        optimizer = dict(cfg.pop("optimizer"))
        groups = param_groups(model, optimizer["lr"], optimizer.get("weight_decay", 0.0), **self.paramwise_cfg)
        groups.reverse()  # logs show the learning rate of the first group: the configured rate
        print_log(
            f"{sum(len(group['params']) for group in groups)} tensors in {len(groups)} optimiser groups, "
            f"lr {groups[-1]['lr']:.3g} to {groups[0]['lr']:.3g}",
            logger="current",
        )
        optimizer["params"] = groups
        cfg.setdefault("type", "OptimWrapper")
        return OPTIM_WRAPPERS.build(cfg, default_args=dict(optimizer=OPTIMIZERS.build(optimizer)))


@OPTIM_WRAPPERS.register_module(force=True)
class AutocastOptimWrapper(OptimWrapper):
    """Trains in bfloat16 by PyTorch's autocast, on the CPU and on GPUs. Weights stay float32.

    bfloat16 has the range of float32, so losses are not scaled. For float16 on a GPU use mmengine's
    ``AmpOptimWrapper``.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, torch.bfloat16):
            yield


AMP_TYPES = ("bfloat16", "float16")


def use_autocast(optim_wrapper: dict[str, Any], dtype: str = "bfloat16") -> None:
    """Switches an ``optim_wrapper`` config to mixed precision, in place. A config with mixed precision stays.

    Args:
        optim_wrapper: the config.
        dtype: ``"bfloat16"``, or ``"float16"`` with a scaled loss, which needs a GPU.

    Raises:
        UserError: the dtype is unknown, or the wrapper is of another type.
    """
    if dtype not in AMP_TYPES:
        raise unknown("--amp", dtype, AMP_TYPES)
    kind = optim_wrapper.get("type", "OptimWrapper")
    if kind == "OptimWrapper" and dtype == "float16":
        optim_wrapper.update(type="AmpOptimWrapper", dtype="float16", loss_scale="dynamic")
    elif kind == "OptimWrapper":
        optim_wrapper["type"] = "AutocastOptimWrapper"
    elif kind not in ("AmpOptimWrapper", "AutocastOptimWrapper"):
        raise UserError(f"--amp cannot change optim_wrapper.type={kind!r}; allowed: OptimWrapper")

"""Checks of a network's arguments and input. Each raises a UserError that names the value and the values allowed."""

import operator
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from backbones.errors import UserError, shown

MAX_CHANS = 4096  # channels of the input: far more than any sensor has, and the first layer still fits into memory
MIN_SIZE = 32  # pixels per side: the last stage, of stride 32, then has one position


def resolve_out_indices(out_indices: Sequence[int], num_stages: int, name: str = "out_indices") -> tuple[int, ...]:
    """Stage numbers, made non-negative and ascending: (-1, 0) of 4 stages becomes (0, 3).

    Raises:
        UserError: a number is out of range or repeated, or there is none.
    """
    allowed = f"different integers from {-num_stages} to {num_stages - 1}, at least one"
    bad = UserError(f"{name} is {shown(out_indices)}; allowed: {allowed}")
    given = out_indices.tolist() if hasattr(out_indices, "tolist") else out_indices  # an array or tensor
    if isinstance(given, str) or not isinstance(given, Sequence) or not given:
        raise bad
    numbers = [as_int(i) for i in given]
    if any(i is None or not -num_stages <= i < num_stages for i in numbers):
        raise bad
    resolved = tuple(sorted(i % num_stages for i in numbers))
    if len(set(resolved)) < len(resolved):
        raise bad
    return resolved


def check_int(name: str, value: int, low: int, high: int | None) -> int:
    """``value`` as an int if it is an integer within ``low``..``high``; UserError otherwise."""
    number = as_int(value)
    if number is None or number < low or (high is not None and number > high):
        allowed = f"integers from {low}" + (" up" if high is None else f" to {high}")
        raise UserError(f"{name} is {shown(value)}; allowed: {allowed}")
    return number


def as_int(value: Any) -> int | None:
    """An integer of Python, numpy or PyTorch as an int; None for anything else, True and False included."""
    if isinstance(value, bool) or (isinstance(value, Tensor) and value.dtype == torch.bool):
        return None
    try:
        return operator.index(value)
    except (TypeError, RuntimeError):
        return None


def check_pattern(pattern: str) -> str:
    """``pattern`` if it is a text; UserError otherwise."""
    if not isinstance(pattern, str):
        raise UserError(f"pattern is {shown(pattern)}; allowed: a text with * for any letters, such as 'van*'")
    return pattern


def check_flag(name: str, value: bool) -> bool:
    """``value`` if it is True or False; UserError otherwise."""
    if not isinstance(value, bool):
        raise UserError(f"{name} is {shown(value)}; allowed: True, False")
    return value


def check_rate(name: str, value: float) -> float:
    """``value`` if it is a number with 0 <= value < 1; UserError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise UserError(f"{name} is {shown(value)}; allowed: 0 <= {name} < 1")
    return value


def check_device(device: str | int | torch.device) -> torch.device:
    """The device; UserError if this machine does not have it."""
    try:
        if isinstance(device, bool):
            raise TypeError
        torch.empty(0, device=device)
        return torch.device(device)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError, ValueError, OverflowError):
        have = "cpu" + (f", cuda:0 to cuda:{n - 1}" if (n := torch.cuda.device_count()) else "")
        raise UserError(f"device {str(device)!r} is not available; allowed here: {have}") from None


def check_size(name: str, height: int, width: int) -> None:
    """Raises UserError for an image with a side below 32 pixels. ``name`` is for the message."""
    if height < MIN_SIZE or width < MIN_SIZE:
        raise UserError(f"{name} is {width}x{height} pixels; allowed: {MIN_SIZE}x{MIN_SIZE} and larger")


def check_input(x: Tensor, in_chans: int, first: nn.Module) -> None:
    """Raises UserError unless ``x`` is a tensor (B, in_chans, H, W) with B >= 1, H >= 32 and W >= 32.

    ``x`` must also be dense, and have the type and device of the weights. This is left out where weights or input may
    change before a layer computes:

    - A graph is compiled, and runs later.
    - A group of processes exists: DDP and FSDP may move or convert the input or the weights.
    - A module has hooks that run before it: a hook may convert the input.

    Args:
        x: the network's input.
        in_chans: number of channels that the network takes.
        first: the module that receives ``x``.
    """
    if not isinstance(x, Tensor):
        raise UserError(f"input is a {type(x).__name__}; allowed: a tensor (B, {in_chans}, H, W)")
    if x.is_nested or x.is_quantized or x.layout != torch.strided:
        kind = "nested" if x.is_nested else "quantized" if x.is_quantized else str(x.layout).removeprefix("torch.")
        raise UserError(f"input is {kind}; allowed: a dense tensor of floating-point numbers")
    if x.ndim != 4 or x.shape[1] != in_chans or x.shape[0] == 0:
        allowed = f"(B, {in_chans}, H, W), B from 1, since in_chans is {in_chans}"
        raise UserError(f"input has shape {tuple(x.shape)}; allowed: {allowed}")
    check_size("input", *x.shape[2:])
    if torch.compiler.is_compiling() or (dist.is_available() and dist.is_initialized()):
        return
    if x.is_inference() and torch.is_grad_enabled() and any(p.requires_grad for p in first.parameters()):
        raise UserError("input was made in torch.inference_mode(), which no gradient passes; allowed: its clone()")
    weight = next(chain(first.parameters(), first.buffers()), None)
    if weight is None or any(module._forward_pre_hooks for module in first.modules()):
        return
    autocast = not x.is_meta and torch.is_autocast_enabled(x.device.type)
    converted = autocast and x.dtype in (torch.float16, torch.bfloat16, torch.float32)
    if x.device != weight.device or not (x.dtype == weight.dtype or converted):
        theirs = f"{weight.dtype} on {weight.device}"
        raise UserError(f"input is {x.dtype} on {x.device}; allowed: {theirs}, as the weights are")


def check_init_cfg(init_cfg: dict[str, Any] | None) -> tuple[str | None, str | None]:
    """The checkpoint and prefix of mm's ``init_cfg=dict(type="Pretrained", checkpoint=..., prefix=...)``.

    Raises:
        UserError: ``init_cfg`` asks for another initialisation. The networks initialise themselves as published.
    """
    if init_cfg is None:
        return None, None
    allowed = "None, dict(type='Pretrained', checkpoint=FILE)"
    if not isinstance(init_cfg, dict) or init_cfg.get("type") not in ("Pretrained", "PretrainedInit"):
        raise UserError(f"init_cfg is {init_cfg!r}; allowed: {allowed}")
    if init_cfg.get("checkpoint") is None or init_cfg.keys() - {
        "type",
        "checkpoint",
        "prefix",
        "map_location",
        "_scope_",
    }:
        raise UserError(f"init_cfg is {init_cfg!r}; allowed: {allowed}, optionally with prefix=TEXT")
    return init_cfg["checkpoint"], check_prefix(init_cfg.get("prefix"))


def check_which(which: str | None) -> str | None:
    """``which`` if it is None or a text; UserError otherwise. Which texts are allowed depends on the file."""
    if which is not None and not (isinstance(which, str) and which):
        raise UserError(f"which is {shown(which)}; allowed: None, 'ema', 'raw', the name of an entry in the file")
    return which


def check_prefix(prefix: str | None) -> str | None:
    """``prefix`` with a dot at its end, as mmengine completes it; None for an empty one; UserError unless a text."""
    if prefix is not None and not isinstance(prefix, str):
        raise UserError(
            f"prefix is {shown(prefix)}; allowed: None, the beginning of tensors' names, such as 'backbone.'"
        )
    return f"{prefix.removesuffix('.')}." if prefix else None

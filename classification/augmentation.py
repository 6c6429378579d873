"""Checks of the augmentation that a model does on batches: mixing, label smoothing, erasing."""

from collections.abc import Mapping
from typing import Any

from backbones.checks import check_int
from backbones.errors import UserError, shown, unknown

MIXUP_MODES = ("batch", "pair", "elem")
ERASING_MODES = ("const", "rand", "pixel")


def check_share(name: str, value: Any, below: bool = False) -> float:
    """``value`` if it is a number from 0 to 1, or with ``below`` below 1; UserError otherwise."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= 1 or (below and value == 1):
        raise UserError(f"{name} is {shown(value)}; allowed: 0 to {'below ' * below}1")
    return value


def check_mixup(mixup: Any) -> dict[str, Any] | None:
    """Arguments of ``timm.data.Mixup``, or None.

    Raises:
        UserError: a strength is negative or no number, a probability is not in [0, 1], or the mode is unknown.
    """
    if mixup is None:
        return None
    if not isinstance(mixup, Mapping):
        raise UserError(f"model.mixup is {shown(mixup)}; allowed: None, or a dict such as {{'mixup_alpha': 0.8}}")
    for name in ("mixup_alpha", "cutmix_alpha"):
        value = mixup.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise UserError(f"model.mixup.{name} is {shown(value)}; allowed: 0 and up; 0 turns it off")
    for name in ("prob", "switch_prob"):
        check_share(f"model.mixup.{name}", mixup.get(name, 0))
    if mixup.get("mode", "batch") not in MIXUP_MODES:
        raise unknown("model.mixup.mode", mixup["mode"], MIXUP_MODES)
    return dict(mixup)


def check_erasing(erasing: Any) -> dict[str, Any] | None:
    """Arguments of timm's ``RandomErasing``, or None.

    Raises:
        UserError: the probability is not in [0, 1], the count is below 1, or the mode is unknown.
    """
    if erasing is None:
        return None
    place = "model.data_preprocessor.random_erasing"
    if not isinstance(erasing, Mapping):
        raise UserError(f"{place} is {shown(erasing)}; allowed: None, or a dict such as {{'probability': 0.25}}")
    check_share(f"{place}.probability", erasing.get("probability", 0))
    check_int(f"{place}.max_count", erasing.get("max_count", 1), 1, None)
    if erasing.get("mode", "const") not in ERASING_MODES:
        raise unknown(f"{place}.mode", erasing["mode"], ERASING_MODES)
    return dict(erasing)

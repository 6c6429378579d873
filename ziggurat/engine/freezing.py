"""``frozen_stages``: how much of a model's backbone does not train."""

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from backbones.checks import check_int
from backbones.errors import UserError, arguments_of
from backbones.registry import FAMILIES, list_archs
from ziggurat.engine.console import say_note
from ziggurat.engine.register import build_any

MILLION = 1e6


def use_frozen_stages(cfg: Any, maker_of: Callable[[Any], Any]) -> None:
    """Writes ``cfg.frozen_stages`` into every backbone of the model, in place. None leaves the config's values.

    Args:
        cfg: the config.
        maker_of: gives the class, or the function, that a backbone's config names; None for an unknown name.

    Raises:
        UserError: the value is no integer from -1 up, or the model has no backbone with stages to freeze.
    """
    stages = cfg.get("frozen_stages")
    if stages is None:
        return
    check_int("frozen_stages", stages, -1, None)
    found = list(backbones_in(cfg.get("model")))
    if not found:
        raise UserError(f"frozen_stages={stages}: the model has no backbone")
    for backbone in found:
        maker = maker_of(backbone)
        if maker is None:
            continue  # whoever builds the model names the unknown type
        if maker is not build_any and maker not in FAMILIES and "frozen_stages" not in arguments_of(maker):
            raise UserError(
                f"frozen_stages={stages}: {backbone.get('type')} takes no frozen_stages; allowed: backbones that do, "
                f"such as {', '.join(list_archs()[:3])}"
            )
        backbone["frozen_stages"] = stages


def backbones_in(part: Any) -> Iterator[Any]:
    """The configs of all backbones within a model's config."""
    if isinstance(part, dict):
        if isinstance(part.get("backbone"), dict):
            yield part["backbone"]
        part = list(part.values())
    for value in part if isinstance(part, list | tuple) else ():
        yield from backbones_in(value)


def tell_frozen(cfg: Any, model: nn.Module) -> None:
    """Says how many parameters of the backbone do not train, if the option is given."""
    if cfg.get("frozen_stages") is None:
        return
    nets = {module for name, module in model.named_modules() if name.split(".")[-1] == "backbone"}
    values = [value for net in nets for value in net.parameters()]
    whole, fixed = (
        sum(value.numel() for value in some) for some in (values, [v for v in values if not v.requires_grad])
    )
    started = any(one.get("pretrained") or one.get("init_cfg") for one in backbones_in(cfg.model))
    random = (
        "" if started or cfg.get("load_from") or not fixed else "; they stay random, since the run loads no weights"
    )
    say_note(
        f"frozen_stages {cfg.frozen_stages}: {fixed / MILLION:.2g} of {whole / MILLION:.2g} million parameters of the "
        f"backbone do not train{random}"
    )

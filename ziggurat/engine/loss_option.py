"""``loss``: one word takes another loss for the classes, in every head of a model."""

from collections.abc import Mapping
from typing import Any

from backbones.errors import UserError, shown
from ziggurat.engine.class_weights import listed
from ziggurat.engine.console import say_note
from ziggurat.engine.tasks import task_for

RECORD = "replaced_losses"  # the config's entry with a line for each loss that was replaced


def use_loss(cfg: Any) -> None:
    """Writes the losses that ``cfg.loss`` names into the model's config, in place. None leaves the config's own.

    A new loss takes over the weight of the first old one, and the weights of classes. A head whose losses are of the
    wanted types already stays as it is.

    Raises:
        UserError: the task has no such loss, or a head cannot take another one.
    """
    name = cfg.get("loss")
    if name is None:
        return
    task = task_for(cfg)
    if not isinstance(name, str) or name not in task.losses:
        raise UserError(f"loss={shown(name)}; allowed: {', '.join(task.losses)}")
    replaced = dict(line.split(" ", 1) for line in lines_of(cfg))
    for place, owner, key in task.loss_places(cfg, name):
        old, new = owner.get(key), task.losses[name]
        if types_of(old) == types_of(new):
            continue
        before = replaced[place].split(" -> ")[0] if place in replaced else described(old)
        owner[key] = new if isinstance(new, str) else taking_over(old, new)
        replaced[place] = f"{before} -> {described(new)}"
    cfg[RECORD] = [f"{place} {change}" for place, change in replaced.items()]


def taking_over(old: Any, new: tuple[dict[str, Any], ...]) -> Any:
    """The configs of new losses: one dict, or a list of several."""
    before = listed(old)
    weight = before[0].get("loss_weight", 1.0) if before else 1.0
    classes = next((one["class_weight"] for one in before if one.get("class_weight") is not None), None)
    made = []
    for one in new:
        made.append(dict(one, loss_weight=weight))
        if classes is not None:
            made[-1]["class_weight"] = classes
    return made[0] if len(made) == 1 else made


def tell_loss(cfg: Any) -> None:
    """Says at the start of a training which losses the option has replaced."""
    if cfg.get("loss") is not None:
        say_note(f"loss: {', '.join(lines_of(cfg)) or f'the config has {cfg.loss} already'}")


def lines_of(cfg: Any) -> list[str]:
    """The lines of the record, each the place and what changed there. What is no such line is left out."""
    given = cfg.get(RECORD)
    return [line for line in given if isinstance(line, str) and " " in line] if isinstance(given, list | tuple) else []


def types_of(losses: Any) -> Any:
    return losses if isinstance(losses, str) else [str(one.get("type")).split(".")[-1] for one in listed(losses)]


def described(losses: Any) -> str:
    """The types of losses with the numbers that shape them, e.g. ``SoftmaxFocalLoss (gamma 2)``."""
    if losses is None:
        return "the default"
    if isinstance(losses, str):
        return losses
    texts = []
    for one in listed(losses):
        numbers = [f"{key} {one[key]:g}" for key in ("gamma", "alpha") if isinstance(one.get(key), int | float)]
        kind = str(one.get("type")).split(".")[-1] if isinstance(one, Mapping) else str(one)
        texts.append(kind + (f" ({', '.join(numbers)})" if numbers else ""))
    return " + ".join(texts)

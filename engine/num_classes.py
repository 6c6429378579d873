"""The classes of a config: their names, and their number in every part of a model that depends on the number."""

from collections.abc import Iterator
from typing import Any

from backbones.errors import UserError

AGNOSTIC = ("rpn_head",)  # tells objects from background only


def class_names(classes: Any, most: int | None = None) -> tuple[str, ...] | None:
    """The class names in the ``classes`` of a config, or None.

    Args:
        classes: a list of names, one name, or None.
        most: the largest number of names, if the data's format limits it.

    Raises:
        UserError: ``classes`` is anything else or empty, or has too many names or one name twice.
    """
    if classes is None:
        return None
    classes = [classes] if isinstance(classes, str) else classes
    if not isinstance(classes, list | tuple) or not classes or len(classes) > (most or len(classes)):
        number = f"1 to {most} names" if most else "names"
        raise UserError(f"classes={classes!r}; allowed: {number} in a list, e.g. classes=[cat,dog]")
    names = tuple(str(name) for name in classes)
    if len(set(names)) < len(names):
        raise UserError(f"classes={list(names)}: a name occurs twice")
    return names


def set_num_classes(model: Any, num_classes: int) -> None:
    """Makes a model config one for ``num_classes`` classes, in place.

    These values change:

    - ``num_classes`` of every head;
    - ``num_things_classes`` of Mask2Former and MaskFormer. Their ``num_stuff_classes`` becomes 0;
    - every list ``class_weight`` with one value per class, or with one more for "no object".

    Heads that do not tell classes apart stay: ``rpn_head``, and heads of one class beside heads of several.

    Raises:
        UserError: a ``class_weight`` has another length, or values that differ between classes.
    """
    heads = list(parts(model))
    counts = {head["num_classes"] for head in heads if "num_classes" in head}
    for head in heads:
        old = head.get("num_classes")
        if "num_things_classes" in head:
            stuff = head.get("num_stuff_classes", 0)
            old = head["num_things_classes"] + stuff
            head["num_things_classes"] = num_classes
            if stuff:
                head["num_stuff_classes"] = 0
        if "num_classes" in head:
            if old == 1 and len(counts) > 1:
                continue
            head["num_classes"] = num_classes
        if old is not None:
            for loss in losses(head):
                loss["class_weight"] = resized(loss["class_weight"], old, num_classes)


def parts(model: Any) -> Iterator[dict[str, Any]]:
    """The dicts of a model that have a number of classes, without ``AGNOSTIC`` heads."""
    if isinstance(model, dict):
        if "num_classes" in model or "num_things_classes" in model:
            yield model
        model = [value for key, value in model.items() if key not in AGNOSTIC]
    if isinstance(model, list | tuple):
        for value in model:
            yield from parts(value)


def losses(head: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The losses of a head whose ``class_weight`` is a list."""
    for value in head.values():
        for loss in value if isinstance(value, list | tuple) else [value]:
            if isinstance(loss, dict) and isinstance(loss.get("class_weight"), list | tuple):
                yield loss


def resized(weights: list[float], old: int, new: int) -> list[float]:
    """``class_weight`` for ``new`` classes. If their number changes, all classes must have the same weight."""
    extra = len(weights) - old if len(weights) in (old, old + 1) else len(weights) - new
    classes, rest = list(weights[: len(weights) - extra]), list(weights[len(weights) - extra :]) if extra else []
    if extra not in (0, 1) or (len(classes) != new and len(set(classes)) > 1):
        raise UserError(f"class_weight has {len(weights)} values and the data {new} classes; set one for each class")
    return list(weights) if len(classes) == new else classes[:1] * new + rest

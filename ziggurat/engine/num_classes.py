"""The classes of a config: their names, and their number in every part of a model that depends on the number."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from backbones.checks import check_int
from backbones.errors import UserError, shorten

AGNOSTIC = ("rpn_head",)  # tells objects from background only
STUFF = ("semantic_head",)  # labels every pixel, by maps of stuff classes that have names of their own (HTC, SCNet)


def class_names(classes: Any, most: int | None = None, numbered: bool = False) -> tuple[str, ...] | None:
    """The class names in the ``classes`` of a config, or None.

    Args:
        classes: a list of names, one name, or None.
        most: the largest number of names, if the data's format limits it.
        numbered: whether ``classes`` may also be the number of classes. Their names are then ``class 0``, ``class 1``
            and so on.

    Raises:
        UserError: ``classes`` is anything else or empty, or has too many names or one name twice. Text that is a
            number or begins with a bracket is no name, since such text comes from a list in quotes.
    """
    if classes is None:
        return None
    if numbered and isinstance(classes, int) and not isinstance(classes, bool) and 0 < classes <= (most or classes):
        return tuple(f"class {i}" for i in range(classes))
    if isinstance(classes, str) and is_name(classes):
        classes = [classes]
    is_list = isinstance(classes, list | tuple) and all(isinstance(name, str | int | float) for name in classes)
    if not is_list or not classes or len(classes) > (most or len(classes)):
        shown = f"[{shorten(classes)}]" if isinstance(classes, list | tuple) else repr(classes)
        number = f"1 to {most} names" if most else "names"
        count = ", or the number of classes" if numbered else ""
        raise UserError(f"classes={shown}; allowed: {number} in a list, e.g. classes=['cat','dog']{count}")
    names = tuple(str(name) for name in classes)
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise UserError(f"classes=[{shorten(names)}]: these names occur twice: {shorten(repeated)}")
    return names


def is_name(text: str) -> bool:
    """Whether text is one class name, rather than a number or a list in quotes."""
    number = text.strip().lstrip("+-").replace(".", "", 1).isdigit()
    return bool(text.strip()) and not number and not text.lstrip().startswith(("[", "("))


def set_num_classes(model: Any, num_classes: int, num_stuff: int = 0) -> None:
    """Makes a model config one for ``num_classes`` classes, in place. The last ``num_stuff`` of these are stuff.

    These values change:

    - ``num_classes`` of every head;
    - ``num_things_classes`` and ``num_stuff_classes`` of Mask2Former and MaskFormer;
    - every list ``class_weight`` with one value per class, or with one more for "no object".

    These heads stay:

    - heads that do not tell classes apart: ``rpn_head``, and heads of one class beside heads of several;
    - a ``semantic_head`` without things, since its classes are those of the stuff maps.

    Raises:
        UserError: a ``class_weight`` has another length, or values that differ between classes.
    """
    heads = list(parts(model))
    for head in heads:
        for name in ("num_classes", "num_things_classes", "num_stuff_classes"):
            if head.get(name) is not None:
                check_int(name, head[name], 0, None)
    counts = {head["num_classes"] for head in heads if "num_classes" in head}
    for head in heads:
        old = head.get("num_classes")
        if "num_things_classes" in head:
            stuff = head.get("num_stuff_classes", 0)
            old = head["num_things_classes"] + stuff
            head["num_things_classes"] = num_classes - num_stuff
            if stuff or num_stuff:
                head["num_stuff_classes"] = num_stuff
        if "num_classes" in head:
            if old == 1 and len(counts) > 1:
                continue
            head["num_classes"] = num_classes
        if old is not None:
            for loss in losses(head):
                loss["class_weight"] = resized(loss["class_weight"], old, num_classes)


def parts(model: Any) -> Iterator[dict[str, Any]]:
    """The dicts of a model that have a number of the data's classes, without ``AGNOSTIC`` and ``STUFF`` heads."""
    if isinstance(model, dict):
        if "num_classes" in model or "num_things_classes" in model:
            yield model
        model = [value for key, value in model.items() if key not in AGNOSTIC and not is_stuff(key, value)]
    if isinstance(model, list | tuple):
        for value in model:
            yield from parts(value)


def is_stuff(key: str, value: Any) -> bool:
    """Whether a part of a model labels stuff alone. The ``semantic_head`` of Panoptic FPN labels things too."""
    return key in STUFF and isinstance(value, dict) and "num_things_classes" not in value


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
        raise UserError(
            f"class_weight has {len(weights)} values and the data {new} classes; set one for each class, or None"
        )
    return list(weights) if len(classes) == new else classes[:1] * new + rest

"""``class_weight``: one option weighs the classes in every classification loss of a model."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import MODELS

from backbones.errors import UserError, arguments_of, shorten, shown
from ziggurat.engine.console import say_note
from ziggurat.engine.formats import formats_of
from ziggurat.engine.num_classes import parts
from ziggurat.engine.splits import datasets_of
from ziggurat.engine.tasks import task_for

BALANCED = "balanced"
WEIGHTS = "class_weight"
LARGEST = float(np.finfo(np.float32).max)
LOSSES = ("loss_cls", "loss_decode")  # the arguments of heads that hold classification losses


def balanced(counts: Sequence[int]) -> list[float]:
    """scikit-learn's "balanced" weights: the number of all samples / (the number of classes x those of the class).

    The mean weight of a sample is 1. A class without samples does not count, and weighs 1.

    Args:
        counts: how many samples each class has.

    Raises:
        UserError: no class has samples.
    """
    counts = np.asarray(counts, np.float64)
    there = counts > 0
    if not there.any():
        raise UserError("class_weight='balanced': the training data have no labels to count")
    weights = np.ones(len(counts))
    weights[there] = counts.sum() / (there.sum() * counts[there])
    return weights.tolist()


def use_class_weights(cfg: Config) -> None:
    """Writes the numbers of ``cfg.class_weight`` into the losses of the model's config. "balanced" stays for training.

    Raises:
        UserError: the value is neither "balanced" nor a number from 0 up for each class, one of them above 0, or a
            head's loss takes no weights.
    """
    given = cfg.get("class_weight")
    if given is None:
        return
    if isinstance(given, list | tuple) and all(map(is_weight, given)) and any(given):
        weights = [float(one) for one in given]
    elif given == BALANCED:
        weights = None
    else:
        wrong = [one for one in given if not is_weight(one)] if isinstance(given, list | tuple) else [given]
        found = shown(wrong[0]) if wrong else "no weight above 0"
        raise UserError(
            f"class_weight has {found}; allowed: a number from 0 up for each class, in a list, or {BALANCED}"
        )
    task = task_for(cfg)
    with task.scoped(cfg), MODELS.switch_scope_and_registry(task.scope_of(cfg)) as registry:
        heads = list(weighed_heads(cfg.model, registry))
        if not heads:
            raise UserError(f"class_weight: the model's heads name none of the losses {', '.join(LOSSES)}")
        for head, key in heads:
            number = classes_of(head)
            if weights is not None and len(weights) != number:
                raise UserError(
                    f"class_weight has {len(weights)} values, and there are {number} classes: "
                    f"{shorten(task.class_names(cfg) or [], 10)}"
                )
            if key == WEIGHTS:
                head[key] = weights
                continue
            takers = [loss for loss in listed(head[key]) if "class_weight" in arguments_of(registry.get(loss.type))]
            if not takers:
                kinds = " and ".join(loss.type for loss in listed(head[key]))
                raise UserError(
                    f"class_weight: the loss {kinds} of {head.type} takes no weights; take a head whose {key} is "
                    "CrossEntropyLoss, or leave class_weight out"
                )
            for loss in takers if weights is not None else ():
                loss.class_weight = weights + other_weights(loss, key, number)


def weighed_heads(model: Any, registry: Any) -> Iterator[tuple[Any, str]]:
    """The heads that tell the data's classes apart, each with the key of the loss that does.

    A model that takes weights itself, as a classifier does, has the key ``class_weight``.

    Raises:
        UserError: a head takes its loss by default, so that the config has no place for the weights.
    """
    heads = list(parts(model))
    most = max((classes_of(head) for head in heads), default=0)
    for head in heads:
        kind = registry.get(head["type"]) if isinstance(head.get("type"), str) else head.get("type")
        if kind is not None and WEIGHTS in arguments_of(kind):
            yield head, WEIGHTS
        for key in LOSSES if kind is not None and classes_of(head) == most else ():
            if head.get(key) is not None:
                yield head, key
            elif key in arguments_of(kind):
                raise UserError(f"class_weight: write {key} of {head.type} into the config, e.g. CrossEntropyLoss")


def classes_of(head: Any) -> int:
    """The number of a head's classes, stuff included."""
    return head.get("num_classes") or head.get("num_things_classes", 0) + head.get("num_stuff_classes", 0)


def listed(losses: Any) -> list[Any]:
    """The configs of a head's losses, of which there may be one, several or none. A text is no config."""
    if losses is None or isinstance(losses, str):
        return []
    return list(losses) if isinstance(losses, list | tuple) else [losses]


def other_weights(loss: Any, key: str, number: int) -> list[float]:
    """The weight of "no object", for a softmax over objects. It stays as the config has it; else it is 1."""
    if key != "loss_cls" or loss.get("use_sigmoid"):
        return []
    old = loss.get("class_weight")
    return list(old[number:]) if isinstance(old, list | tuple) and len(old) == number + 1 else [1.0]


def settle_class_weights(cfg: Config) -> None:
    """Before a training: counts the labels for "balanced" weights, and says the weights of all classes in one line.

    Raises:
        UserError: as :func:`use_class_weights`; for "balanced", a training set's labels cannot be counted.
    """
    given = cfg.get("class_weight")
    if given is None:
        return
    task = task_for(cfg)
    if given == BALANCED:
        counted = [found.counts(dataset) for dataset, found in formats_of(cfg, "train", task.scope_of(cfg))]
        if not counted or any(one is None for one in counted):
            raise UserError("class_weight=balanced: the labels of this training set cannot be counted; give numbers")
        cfg.class_weight = [float(f"{weight:.4g}") for weight in balanced(np.sum(counted, axis=0))]
        use_class_weights(cfg)
    pairs = zip(names_in(cfg) or task.class_names(cfg) or range(len(cfg.class_weight)), cfg.class_weight)
    say_note("class weights: " + ", ".join(f"{name} {weight:g}" for name, weight in pairs))


def names_in(cfg: Config) -> list[str] | None:
    """The class names that the training set's config has, where :meth:`Task.class_names` reads the test set's."""
    dataset = next(datasets_of(cfg, "train"), {})
    given = dataset.get("classes") or (dataset.get("metainfo") or {}).get("classes")
    return [given] if isinstance(given, str) else given and list(given)


def is_weight(value: Any) -> bool:
    """Whether a value is a number from 0 up that is finite as float32, too."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LARGEST

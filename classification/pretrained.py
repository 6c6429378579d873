"""Filling a classifier from weights whose head has other classes."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from backbones import UserError, load_weights
from backbones.errors import Notice
from backbones.weights.source import Opened, head_rows, open_source, read_source
from classification.class_maps import IMAGENET_1K, class_rows, classes_of_published, imagenet_1k_rows
from classification.imagenet import are_imagenet, word_of
from ziggurat.engine.arguments import names_of
from ziggurat.engine.other_classes import other_number


def load_pretrained(clf: nn.Module, source: str | Path, exact: bool = False) -> None:
    """Loads backbone and head of a classifier from a name of the weights table, a URL or a file.

    Weights without a head fill the backbone alone. A head of other classes is treated as in :func:`fit_head`.

    Args:
        clf: a ``Classifier``.
        source: the weights.
        exact: the weights are tested or predict, so that no head may start fresh.

    Raises:
        UserError: the weights do not fit, or their head has other classes and the classifier does not say what to do.
    """
    arch, which = clf.backbone.arch, clf.backbone.which
    if clf.reset_head and not exact:
        load_weights(clf.backbone, source, which=which)
        return
    opened = open_source(arch, clf.backbone.ARCHS[arch], source, which, ahead=True)
    if starts_fresh(clf, head_rows(opened), str(source), exact):
        load_weights(clf.backbone, source, which=which)
        return
    if clf.reset_head:  # for a training
        load_weights(clf, source, which=which)
        return
    classes = classes_in(clf, source, opened)
    tensors = fit_head(clf, opened.found.tensors, opened.format.names, str(source), classes)
    if tensors is not opened.found.tensors:
        source, which = {"state_dict": tensors, "meta": {"ziggurat": opened.own}}, None
    load_weights(clf, source, which=which)


def classes_in(clf: nn.Module, source: str | Path, opened: Opened) -> Sequence[str] | None:
    """The class names of weights, in the order of their outputs; None if nothing tells them."""
    published = classes_of_published(clf.backbone.arch, source, head_rows(opened) or 0)
    if published is not None:
        return published
    where, content = read_source(clf.backbone.arch, source, ahead=True)
    return names_of(dict(content), opened.own or {}, where)


def fit_head(
    clf: nn.Module,
    tensors: Mapping[str, Tensor],
    names: Mapping[str, str],
    source: str,
    classes: Sequence[str] | None = None,
) -> Mapping[str, Tensor]:
    """The tensors of a checkpoint with a head for a classifier's classes.

    - ``clf.reset_head`` leaves the head out, so that the classifier's own stays.
    - A head of another number of classes becomes the classifier's own, see :func:`starts_fresh`.
    - ``clf.class_map`` picks rows of the head, see ``class_rows``. A class that the old head lacks starts fresh, with a
      warning.

    Args:
        clf: a ``Classifier``.
        tensors: those of the checkpoint. They are not changed.
        names: name in the checkpoint -> name in the classifier.
        source: the checkpoint's name in messages.
        classes: the class names of the checkpoint, in the order of its outputs; None if it does not tell.

    Raises:
        UserError: the head has as many other classes, and there is neither ``class_map`` nor ``reset_head``; or there
            is a ``class_map`` and no head.
    """
    head = {key: name for key, name in names.items() if name.startswith("head.") and key in tensors}
    if clf.reset_head:
        return {key: value for key, value in tensors.items() if key not in head}
    last = {key: name for key, name in head.items() if name.startswith(("head.fc.", "head.fc2."))}
    if not last:
        if clf.class_map is not None:
            raise UserError(f"class_map={clf.class_map!r} picks rows of a head, and {source} has none; leave it out")
        return tensors
    rows = len(tensors[next(iter(last))])
    if rows == clf.num_classes and clf.class_map is None:
        check_classes(clf, classes, source)
        return tensors
    if starts_fresh(clf, rows, source):
        fresh = clf.state_dict()
        return {**tensors, **{key: fresh[name] for key, name in head.items() if name in fresh}}
    taken = class_rows(clf.class_map, rows, clf.num_classes, source)
    fresh = [index for index, row in enumerate(taken) if row is None]
    if fresh:
        text = f"{source} has no row for {len(fresh)} of {len(taken)} classes (index {fresh[0]}), which start fresh"
        warnings.warn(text, Notice, stacklevel=2)
    picked = {}
    for key, name in last.items():
        picked[key] = tensors[key][torch.tensor([row or 0 for row in taken])].clone()
        picked[key][fresh] = clf.get_parameter(name)[fresh].to(picked[key]).reshape(picked[key][fresh].shape).detach()
    return {**tensors, **picked}


def starts_fresh(clf: nn.Module, rows: int | None, source: str, exact: bool = False) -> bool:
    """Whether a head has another number of classes than the classifier, which then keeps its own. A warning says so.

    Args:
        clf: a ``Classifier``. With ``class_map`` it takes rows of the head.
        rows: the number of classes of the head; None if the weights have no head.
        source: the weights' name in messages.
        exact: an error takes the place of the warning.

    Raises:
        UserError: the number differs, and the weights are to be tested, to predict or to be resumed.
    """
    if rows in (None, clf.num_classes) or clf.class_map is not None:
        return False
    if exact:
        text = other_number(source, rows, clf.num_classes, "the model has")
        raise UserError(f"{text}; allowed: weights of as many classes, since an untrained head knows none")
    known = len(imagenet_1k_rows().get(rows, [])) == clf.num_classes
    way = f"{IMAGENET_1K} keeps the rows of these classes" if known else "FILE picks rows of the old one"
    text = f"{other_number(source, rows, clf.num_classes)}; the head starts fresh, as --reset-head says explicitly"
    warnings.warn(f"{text}; model.class_map={way}", Notice, stacklevel=3)
    return True


def rows_of(state: Mapping[str, Tensor]) -> int | None:
    """The number of classes of a classifier's state dict; None if it has no head."""
    last = next((state[name] for name in ("head.fc.weight", "head.fc2.weight") if name in state), None)
    return None if last is None or not last.ndim else len(last)


def check_classes(clf: nn.Module, classes: Sequence[str] | None, source: str) -> None:
    """Raises UserError if the classes of a checkpoint are not those of the training data, in the same order.

    The classes of ImageNet-1K may have other names in the data: WordNet ids, numbers or words. A checkpoint that does
    not tell its classes gets a warning.

    Args:
        clf: a ``Classifier``. Without ``class_names`` nothing is compared.
        classes: of the checkpoint; None if it does not tell.
        source: the checkpoint's name in messages.
    """
    ours = clf.class_names
    if ours is None or (classes is not None and list(map(str, classes)) == list(map(str, ours))):
        return
    if are_imagenet(ours) and (classes is None or are_imagenet(classes)):
        return
    if classes is None:
        text = f"{source} does not name its {len(ours)} classes, which are taken to be the data's, in their order"
        warnings.warn(f"{text}; if they are others, add --reset-head", Notice, stacklevel=2)
        return
    index = next((i for i, pair in enumerate(zip(classes, ours, strict=False)) if pair[0] != pair[1]), 0)
    theirs = shown_class(classes[index])
    raise UserError(
        f"{source} has a head of other classes: its class {index} is {theirs}, and the data's is "
        f"{ours[index]!r}; add --reset-head to start with a new head, or set classes=[...] to the head's order"
    )


def shown_class(name: str) -> str:
    """A class in a message. A WordNet id is followed by its word."""
    word = word_of(str(name))
    return repr(name) if word == name else f"{name!r} ({word})"

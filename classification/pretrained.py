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


def load_pretrained(clf: nn.Module, source: str | Path) -> None:
    """Loads backbone and head of a classifier from a name of the weights table, a URL or a file.

    Weights without a head fill the backbone alone. A head of other classes is treated as in :func:`fit_head`.

    Raises:
        UserError: the weights do not fit, or their head has other classes and the classifier does not say what to do.
    """
    if clf.reset_head:
        load_weights(clf.backbone, source, which=clf.backbone.which)
        return
    arch, which = clf.backbone.arch, clf.backbone.which
    opened = open_source(arch, clf.backbone.ARCHS[arch], source, which, ahead=True)
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
    - ``clf.class_map`` picks rows of the head, see ``class_rows``. A class that the old head lacks starts fresh, with a
      warning.

    Args:
        clf: a ``Classifier``.
        tensors: those of the checkpoint. They are not changed.
        names: name in the checkpoint -> name in the classifier.
        source: the checkpoint's name in messages.
        classes: the class names of the checkpoint, in the order of its outputs; None if it does not tell.

    Raises:
        UserError: the head has other classes, or another number of them, and there is neither ``class_map`` nor
            ``reset_head``; or there is a ``class_map`` and no head.
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
    if clf.class_map is None:
        known = len(imagenet_1k_rows().get(rows, [])) == clf.num_classes
        way = f", or model.class_map={IMAGENET_1K} to keep the rows of these classes" if known else ""
        raise UserError(
            f"{source} has a head of {rows} classes, and the data have {clf.num_classes}; "
            f"add --reset-head to start with a new head{way}"
        )
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

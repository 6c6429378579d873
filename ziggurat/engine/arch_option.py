"""What becomes of values that a config types for its own arch, such as mean and std, if an option changes the arch."""

from typing import Any

import torch
from mmengine.config import Config

from backbones.errors import UserError, arguments_of
from backbones.registry import family_of
from backbones.weights import WEIGHTS as TABLE
from backbones.weights import statistics
from ziggurat.engine.complete import WEIGHTS, weights_of
from ziggurat.engine.console import say_note
from ziggurat.engine.normalisation import SAME


def arch_of(cfg: Config) -> Any:
    """The arch of ``model.backbone``, or None."""
    return part_of(cfg, "backbone").get("arch")


def part_of(cfg: Config, name: str) -> Any:
    """A dict of the model's config; an empty dict if there is no such dict."""
    model = cfg.get("model")
    part = model.get(name) if isinstance(model, dict) else None
    return part if isinstance(part, dict) else {}


def typed_statistics(cfg: Config, options: dict[str, Any]) -> list[str]:
    """The names, of mean and std, that the config's file types. Numbers of an option are the user's last word."""
    preprocessor = part_of(cfg, "data_preprocessor")
    typed = [name for name in ("mean", "std") if preprocessor.get(name) not in (None, WEIGHTS)]
    return [name for name in typed if f"model.data_preprocessor.{name}" not in options]


def follow_arch(cfg: Config, typed: list[str]) -> None:
    """Replaces the ``typed`` ones of mean and std by ``"weights"``, with a note. Our leaves type numbers of weights."""
    part_of(cfg, "data_preprocessor").update(dict.fromkeys(typed, WEIGHTS))
    if typed:
        give, those = ("gives", "that") if len(typed) == 1 else ("give", "those")
        say_note(f"{' and '.join(typed)} of the config {give} way to {those} of {arch_of(cfg)}'s weights")


def leave_out_foreign(cfg: Config, old: str, options: dict[str, Any]) -> None:
    """Takes out of ``model.backbone`` what a leaf of ours types for its own arch, with a note.

    These are weights of the table, and arguments that the new network does not take, such as the sizes of filters that
    it lacks. Values of options are the user's last word.

    Args:
        cfg: the config, with its options.
        old: the arch that the config's file names.
        options: the options, by dotted keys.
    """
    backbone = part_of(cfg, "backbone")
    family = family_of(backbone.arch)
    typed = [key for key in backbone if key not in ("type", "arch") and f"model.backbone.{key}" not in options]
    if "pretrained" in typed and backbone.pretrained in TABLE and backbone.pretrained.startswith(f"{old}."):
        backbone.pretrained = True
    left = [
        key for key in typed if key not in arguments_of(family) or not takes(family, backbone.arch, key, backbone[key])
    ]
    for key in left:
        del backbone[key]
    if left:
        say_note(f"{' and '.join(left)} of the config are left out; they belong to {old}")


def takes(family: type, arch: str, key: str, value: Any) -> bool:
    """Whether a network takes a value for an argument. Only what weights settle depends on the arch."""
    if key not in family.SETTLED_BY_WEIGHTS:
        return True
    try:
        with torch.device("meta"):
            family(arch, **{key: value})
    except UserError:
        return False
    return True


def note_kept(cfg: Config, typed: list[str]) -> None:
    """Says that a user's ``typed`` mean or std differ from those of the weights to be loaded. The numbers stay.

    Args:
        cfg: the completed config.
        typed: those of mean and std that the config's file types.
    """
    backbone, preprocessor = part_of(cfg, "backbone"), part_of(cfg, "data_preprocessor")
    weights = weights_of(backbone)
    if not typed or not weights:
        return
    known = statistics(backbone.arch, weights).for_channels(backbone.get("in_chans", 3))
    unit = 1 if preprocessor.get("type") == "BatchPreprocessor" else 255
    order = 1 if unit == 1 or preprocessor.get("bgr_to_rgb") else -1  # mm's transforms read files as BGR
    different = [
        name for name in typed if differ(preprocessor[name], [unit * v for v in getattr(known, name)][::order], unit)
    ]
    if different:
        names, words = " and ".join(different), [f"model.data_preprocessor.{name}={WEIGHTS}" for name in different]
        say_note(
            f"{names} of the config stay as typed, and differ from {weights}'s; to follow those, set {' '.join(words)}"
        )


def differ(given: Any, wanted: list[float], unit: int) -> bool:
    """Whether two lists of numbers differ. ``unit`` is the largest number of their range."""
    if not isinstance(given, list | tuple) or len(given) != len(wanted):
        return True
    return any(abs(one - other) > SAME * unit for one, other in zip(given, wanted, strict=True))

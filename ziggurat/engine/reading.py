"""The option ``reading``: one rule by which a run, its tests and its predictions read image files.

Example: ``reading=dict(value_range=(0, 4095), alpha=(255, 255, 255), upright=False)``, or on the command line
``--cfg-options reading.value_range=[0,4095]``. The completion writes the rule to every loading step and data set. The
channels of the pixels are the network's ``in_chans``.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from backbones.errors import UserError, arguments_of
from backbones.reading import READING, Reading, reading_of
from ziggurat.engine.console import say_note
from ziggurat.engine.formats import class_of
from ziggurat.engine.parts import kind_of
from ziggurat.engine.splits import SPLITS, datasets_of

LOADER = "LoadImageFromFile"


def chosen_reading(cfg: Any) -> Reading:
    """The rule of a config: its top-level ``reading``, with the channels of its network.

    Raises:
        UserError: the rule is not allowed, or has other channels than the network.
    """
    given = reading_of(cfg.get("reading"))
    wanted = channels_of(cfg.get("model"))
    if wanted is None:
        return given
    if "channels" in (cfg.get("reading") or {}) and given.channels != wanted:
        raise UserError(
            f"reading.channels is {given.channels}, and model.backbone.in_chans {wanted}; leave reading.channels out"
        )
    return given._replace(channels=wanted)


def channels_of(model: Any) -> int | None:
    """``in_chans`` of the backbone in a model's config, also of a model in a wrapper; None for another backbone."""
    if not isinstance(model, dict):
        return None
    backbone = model.get("backbone")
    if isinstance(backbone, dict):
        is_ours = backbone.get("arch") is not None and "in_channels" not in backbone
        return backbone.get("in_chans", 3) if is_ours else None
    return next((found for part in model.values() if (found := channels_of(part)) is not None), None)


def use_reading(cfg: Any, scope: str) -> None:
    """Writes a config's rule to its loading steps and data sets, in place.

    A config that says nothing keeps what is there.

    Args:
        cfg: the config.
        scope: where names of data sets are looked up, e.g. ``"mmdet"``.

    Raises:
        UserError: as :func:`chosen_reading`.
    """
    reading = chosen_reading(cfg)
    if cfg.get("reading") is None and reading == READING:
        return
    places = [part for part in dicts_in(cfg) if is_loader(part)]
    for split in SPLITS:
        for dataset in datasets_of(cfg, split):
            kind = class_of(dataset, scope)
            if kind is not None and "reading" in arguments_of(kind):
                places.append(dataset)
    for part in places:
        if reading != READING:
            part["reading"] = as_dict(reading)
        else:
            part.pop("reading", None)


def follow_reading(cfg: Any, own: Mapping[str, Any] | None, scope: str, source: str) -> None:
    """Gives a config without a rule that of the run which wrote its checkpoint. A note says so.

    A rule of the config that differs stays, and a note names both. ``max_pixels`` is no part of that: the limit is the
    config's own, since it changes no pixel.

    Args:
        cfg: the completed config, changed in place.
        own: the result of ``read_own_meta`` for the checkpoint. None, as for other trainers' files, changes nothing.
        scope: as for :func:`use_reading`.
        source: the checkpoint's name in the note.
    """
    config = (own or {}).get("config")
    if not isinstance(config, Mapping):
        return
    trained, chosen = (as_dict(reading_of(given.get("reading"))) for given in (config, cfg))
    limit = {key: chosen.pop(key) for key in ("max_pixels",) if key in chosen}
    trained.pop("max_pixels", None)
    if trained == chosen:
        return
    if cfg.get("reading") is not None and set(cfg.reading) != {"max_pixels"}:
        default = "the default rule"
        say_note(f"images are read by {chosen or default}, and in the run that wrote {source} by {trained or default}")
        return
    cfg.reading = trained | limit
    use_reading(cfg, scope)
    say_note(f"images are read as in the run that wrote {source}: {trained}")


def reading_of_dataset(dataset: Any) -> Reading:
    """The rule that a data set's completed config has, in itself or in its loading step."""
    steps = [part for part in dicts_in(dataset.get("pipeline") or []) if is_loader(part)]
    return reading_of(next((step.get("reading") for step in steps), dataset.get("reading")))


def reading_in(dataset: Any) -> Reading:
    """The rule by which a data set of mm's reads images: that of its loading step."""
    inner = next(iter(getattr(dataset, "datasets", [dataset])))
    steps = getattr(getattr(inner, "pipeline", None), "transforms", ())
    return next((step.reading for step in steps if hasattr(step, "reading")), READING)


def as_dict(reading: Reading) -> dict[str, Any]:
    """A rule as plain data, without the values that are the default."""
    pairs = zip(Reading._fields, reading, READING, strict=True)
    return {name: value for name, value, default in pairs if value != default}


def is_loader(part: Any) -> bool:
    """Whether a dict is the config of our loading step, in any scope but mmcv's own."""
    kind = part.get("type")
    return isinstance(kind, str | type) and kind_of(part) == LOADER and not str(kind).startswith("mmcv.")


def dicts_in(part: Any) -> Iterator[Any]:
    """Every dict within a config, itself included."""
    if isinstance(part, dict):
        yield part
    values = part.values() if hasattr(part, "values") else part if isinstance(part, list | tuple) else ()
    for value in values:
        yield from dicts_in(value)

"""Published detectors and segmenters, each by the name of the config that it was trained with."""

from pathlib import Path
from typing import NamedTuple

from backbones import WEIGHTS, list_archs
from backbones.errors import UserError, unknown
from backbones.weights.fetch import fetch_first
from backbones.weights.table import Terms
from ziggurat.engine.cli import WEIGHT_SUFFIXES
from ziggurat.engine.project_configs import config_named, is_config, refuse_mistyped
from ziggurat.engine.tasks import task_named
from ziggurat.root import ROOT


class PublishedModel(NamedTuple):
    """Published weights of a whole model.

    Attributes:
        terms: origin and licence.
        urls: addresses of the same weights, tried in order.
    """

    terms: Terms
    urls: tuple[str, ...]


def check_model_name(word: str) -> None:
    """Raises UserError, with the nearest names, for a word that is no arch, weights, config, address or file."""
    if is_config(word) or word in (*list_archs(), *WEIGHTS) or "://" in word or Path(word).exists():
        return
    if Path(word).name != word or word.lower().endswith(WEIGHT_SUFFIXES):
        raise UserError(f"no such file: {word}; allowed: a checkpoint, a config, an arch, or a name of weights")
    refuse_mistyped(word)
    raise unknown("arch, weights or file", word, [*list_archs(), *WEIGHTS])


def published_model(name: str | Path) -> tuple[Path, Path] | None:
    """The config and the file of published weights, which are downloaded; None if no config of ours has this name.

    Raises:
        UserError: no weights of this config are published, they cannot be downloaded, or the name is nearly a config's.
    """
    refuse_mistyped(name)
    config = config_named(name)
    if config is None:
        return None
    published = task_named(config.relative_to(ROOT).parts[0]).published_models()
    if str(name) not in published:
        others = f"those of {', '.join(sorted(published))}" if published else "none of this task"
        raise UserError(f"no weights of {name} are published; allowed: the config and a checkpoint; or {others}")
    return config, fetch_first(str(name), *published[str(name)])

"""The rule by which the images were read that weights were trained on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backbones.reading import READING, Reading, reading_of
from backbones.weights.own import read_own_meta
from backbones.weights.source import read_source
from backbones.weights.table import check_pretrained, published_name


def trained_reading(arch: str, pretrained: bool | str | Path | Mapping[str, Any] | None) -> Reading:
    """The rule in the config that a checkpoint of this project carries; the default rule for other weights.

    Args:
        arch: the network's arch.
        pretrained: as for ``backbones.weights.statistics``. A file is read once: the load that follows gets the
            content from here.

    Raises:
        UserError: a file is absent, unsafe or cut off, or its rule is not one.
    """
    if not isinstance(pretrained, Mapping):
        pretrained = check_pretrained(arch, pretrained)
        if pretrained is None or published_name(arch, pretrained) is not None:
            return READING
    where, content = read_source(arch, pretrained, ahead=True)
    config = (read_own_meta(content) or {}).get("config")
    given = config.get("reading") if isinstance(config, Mapping) else None
    return reading_of(given, f"reading in {where}")

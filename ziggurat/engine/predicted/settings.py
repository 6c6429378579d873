"""The settings of the predictions in a folder, which all of them share."""

import json
from pathlib import Path
from typing import Any

from backbones.errors import UserError, shown
from backbones.files import with_null, write_json

FILE = ".settings"
OVERWRITE = "--overwrite"
ELSEWHERE = f"allowed: another --out, or {OVERWRITE}, which removes the predictions that are there"


def settle(out: Path, settings: dict[str, Any], is_new: bool) -> None:
    """Writes the settings, or compares them with those of the predictions that are there.

    Args:
        out: the folder.
        settings: what the predictions depend on, in JSON's types.
        is_new: whether no predictions are there.

    Raises:
        UserError: the predictions there have other settings, or nobody knows which.
    """
    path, settings = out / FILE, json.loads(json.dumps(with_null(settings)))
    if is_new:
        write_json(path, settings)
        return
    try:
        known = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise UserError(f"{path} is absent or no JSON, and predictions are there; {ELSEWHERE}") from None
    for name in dict.fromkeys([*settings, *known]):
        if known.get(name) != settings.get(name):
            values = f"{name} {shown(known.get(name))}, and this run has {shown(settings.get(name))}"
            raise UserError(f"{out} has predictions with {values}; {ELSEWHERE}")

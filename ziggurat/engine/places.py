"""The folders in which tools put the results of weights, unless the user names one."""

from pathlib import Path

from backbones.weights import WEIGHTS
from ziggurat.engine.project_configs import config_named


def place_of(weights: str | Path) -> Path:
    """Where results of weights belong, below a folder for results of a kind, so that two runs' results do not meet.

    Example: ``van_b2/epoch_300`` for ``work_dirs/van_b2/epoch_300.pth``, and ``van_b2.in1k`` for that name.

    Args:
        weights: a name of the weights table or of a published model, a URL, or a file.
    """
    text = str(weights)
    if text in WEIGHTS or config_named(text) is not None:
        return Path(text)
    if "://" in text:
        return Path(Path(text).name).with_suffix("")
    path = Path(text).absolute().with_suffix("")
    parts = path.parts[1:]
    below = len(parts) - parts[::-1].index("work_dirs") if "work_dirs" in parts else len(parts) - 2
    return Path(*parts[max(below, 0) :])

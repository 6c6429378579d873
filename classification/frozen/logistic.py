"""scikit-learn's logistic regression on the same features, as a check of the linear probe."""

import importlib.util
import warnings
from typing import Any

import numpy as np

from backbones.errors import UserError
from classification.frozen.cache import Split
from classification.frozen.probe import hold_out, scale_of

STRENGTHS = (0.01, 0.1, 1.0)  # scikit-learn's C: larger values regularise less


def check_installed() -> None:
    """Raises UserError unless scikit-learn is installed."""
    if importlib.util.find_spec("sklearn") is None:
        raise UserError("the check needs scikit-learn, which is not installed; pip install scikit-learn")


def logistic_regression(train: Split, val: Split, seed: int = 0) -> dict[str, Any]:
    """Fits a logistic regression for each strength, and chooses one as :func:`linear_probe` does.

    The part of ``train`` that is held out, and the standardisation, are those of the linear probe. All features are
    held in memory.

    Returns:
        ``dict(C, held_out_top1, top1)``, in percent.

    Raises:
        UserError: scikit-learn is not installed, or nothing can be held out.
    """
    check_installed()
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    kept, held_out = hold_out(np.asarray(train.labels), seed)
    scale = scale_of(train.features, kept, "cpu")
    parts = [(train, kept), (train, held_out), (val, np.arange(len(val.labels)))]
    (x, y), held, test = [(scale.rows(s.features, rows).numpy(), np.asarray(s.labels[rows])) for s, rows in parts]
    found = []
    for strength in STRENGTHS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # an early stop is a regularisation of its own
            model = LogisticRegression(C=strength, max_iter=200).fit(x, y)
        found.append({"C": strength, "held_out_top1": 100 * model.score(*held), "top1": 100 * model.score(*test)})
    return max(found, key=lambda point: point["held_out_top1"])

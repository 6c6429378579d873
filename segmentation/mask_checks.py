"""Masks from which nothing can be learned, since all labelled pixels are of one class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backbones.errors import UserError, shorten
from segmentation.legend import IGNORE
from segmentation.mask_files import raw_mask, read_mask


def check_one_class(masks: Sequence[Path], how: tuple[int, bool, Any], classes: Sequence[str]) -> None:
    """Looks at all masks of a training set until a second class is found.

    Args:
        masks: the files.
        how: the further arguments of ``read_mask``.
        classes: the names.

    Raises:
        UserError: the labelled pixels of all masks are of one class, or those of binary masks have none.
    """
    found: set[int] = set()
    values: set[int] = set()
    for mask in masks:
        found.update(np.unique(read_mask(mask, *how)).tolist())
        if len(found - {IGNORE}) > 1:
            return
        if how[2] is None:
            values.update(np.unique(raw_mask(mask)).tolist())
    labelled = sorted(found - {IGNORE})
    where = f"{masks[0].parent}: {len(masks)} masks"
    if values == {0, IGNORE}:
        raise UserError(
            f"{where} have the values 0 and 255 alone, and 255 is taken as unlabelled; allowed for such masks: "
            "legend={'background': 0, 'object': 255}"
        )
    if labelled and how[1] and 0 in values:
        raise UserError(
            f"{where} have the values {shorten(sorted(values))} alone, and 0 is taken as unlabelled, so that all "
            f"pixels are of the class {classes[labelled[0]]}; allowed: reduce_zero_label=False, with a name for 0"
        )
    if labelled:
        raise UserError(
            f"{where} have labelled pixels of the class {classes[labelled[0]]} alone; allowed: two classes or more, "
            "such as a background"
        )

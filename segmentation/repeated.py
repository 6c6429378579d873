"""Images of rare classes repeat: which classes an image has, its mask tells."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from mmseg.registry import DATASETS

from backbones.errors import UnreadableImage, UserError
from ziggurat.engine.repeated import RepeatedImages

THREADS = 4  # that read masks
LOADING = ("LoadMask", "LoadAnnotations")


@DATASETS.register_module()
class RepeatedMasks(RepeatedImages):
    """``RepeatedImages`` for data sets of mmseg. All masks are read once, as the training reads them.

    Raises:
        UserError: the data set's pipeline has no step that loads masks.
    """

    def classes_in(self, dataset: Any) -> Iterator[Sequence[int]]:
        steps = [step for step in dataset.pipeline.transforms if type(step).__name__ in LOADING]
        if not steps:
            raise UserError(f"oversample_thr: the training pipeline has none of {', '.join(LOADING)}")

        def classes(index: int) -> Sequence[int]:
            try:
                mask = steps[0](dataset.get_data_info(index))["gt_seg_map"]
            except UnreadableImage:
                return ()  # the training leaves the image out
            return [int(value) for value in np.unique(mask) if value != dataset.ignore_index]

        with ThreadPoolExecutor(THREADS) as pool:
            yield from pool.map(classes, range(len(dataset)))

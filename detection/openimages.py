"""mmdet's data set of the Open Images challenge, whose table of classes is read without code from its file."""

from typing import Any

import numpy as np
from mmdet import datasets
from mmdet.registry import DATASETS
from mmengine.fileio import get_local_path

from backbones.errors import UserError


@DATASETS.register_module(force=True)  # in place of mmdet's, which unpickles whatever the file asks for
class OpenImagesChallengeDataset(datasets.OpenImagesChallengeDataset):
    """mmdet's OpenImagesChallengeDataset, which reads numbers alone.

    Raises:
        UserError: ``hierarchy_file`` is no array of numbers.
    """

    def _get_relation_matrix(self, hierarchy_file: str) -> Any:
        with get_local_path(hierarchy_file, backend_args=self.backend_args) as path:
            try:
                return np.load(path, allow_pickle=False)[1:, 1:]
            except (OSError, ValueError, IndexError) as error:
                raise UserError(
                    f"{hierarchy_file}: {error}; allowed: an array of numbers, as numpy.save writes"
                ) from None

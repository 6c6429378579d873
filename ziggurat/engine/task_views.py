"""What a task shows: samples and images of its data, statistics of them, and the report of a test."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ziggurat.engine.pages.content import Page


@dataclass
class Annotated:
    """An image as its file has it, with its truth.

    Attributes:
        image: RGB, with the truth drawn on it.
        name: of the image, mostly its path.
        lines: of the caption.
        classes: the names of the classes in the image.
    """

    image: Image.Image
    name: str
    lines: Sequence[str] = ()
    classes: Sequence[str] = ()


@dataclass
class DataStatistics:
    """What is in a data set.

    Attributes:
        images: their number. An image that a wrapper repeats counts once.
        classes: K names.
        unit: what ``counts`` counts, e.g. ``"objects"``.
        counts: (K,) int64, of each class.
        class_images: (K,) int64, the number of images that have the class.
        counted: the number of images that these two are of.
        sizes: (N, 2) int, width and height in pixels, of the images whose size is known.
        figures: further numbers by their names.
        distributions: title -> numbers, each drawn as a histogram, and what they are of, e.g. ``"images"``.
        unreadable: the errors of images or masks that cannot be read.
    """

    images: int
    classes: Sequence[str]
    unit: str
    counts: np.ndarray
    class_images: np.ndarray
    counted: int
    sizes: np.ndarray
    figures: Mapping[str, Any] = field(default_factory=dict)
    distributions: Mapping[str, tuple[np.ndarray, str]] = field(default_factory=dict)
    unreadable: Sequence[str] = ()


class TaskViews(ABC):
    """The part of the protocol of a task that is about looking at data and results."""

    @abstractmethod
    def draw_sample(self, sample: dict[str, Any], metainfo: dict[str, Any]) -> Image.Image:
        """An item of a data set, after its pipeline, with the truth drawn on it.

        Args:
            sample: the item, ``dataset[index]``.
            metainfo: of the data set: ``classes``, and ``palette`` if there is one.
        """

    @abstractmethod
    def annotated(self, dataset: Any, index: int) -> Annotated | None:
        """An image as its file has it, before the pipeline, with its truth. None if the data set does not tell.

        Args:
            dataset: from :meth:`ziggurat.engine.task.Task.build_dataset`.
            index: of the sample.

        Raises:
            UserError: the image or its mask cannot be read.
        """

    @abstractmethod
    def statistics(self, dataset: Any, sample: int | None) -> DataStatistics:
        """What is in a data set.

        Args:
            dataset: from :meth:`ziggurat.engine.task.Task.build_dataset`. Its wrappers do not count.
            sample: how many files are opened at most, where the annotations do not tell; None for all of them.
        """

    @abstractmethod
    def report_page(self, content: dict[str, Any], folder: Path) -> Page:
        """The page of a test, with everything but its images.

        Args:
            content: of ``report.json``, which the task's metric has written.
            folder: of the report, with tables and charts beside that file.
        """

    def with_truth(self, dataset: Any, cfg: Any) -> Any:
        """Makes a data set's config load the truth, which testing may omit. The config is changed and returned."""
        return dataset

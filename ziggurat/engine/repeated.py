"""``oversample_thr``: images of rare classes repeat within an epoch, by the rule of LVIS (arXiv 1908.03195).

The repeat factor of an image is ``max(1, sqrt(threshold / share))`` of its rarest class, rounded up. The share is of
all images, those with the class.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import ConfigDict
from mmengine.dataset import ClassBalancedDataset
from mmengine.logging import print_log
from mmengine.registry import DATASETS

from backbones.errors import UserError, shorten, shown
from ziggurat.engine.console import say_note
from ziggurat.engine.parts import kind_of

GROUPS = 5  # of repeated images that the log lists
RAREST = 3  # classes that the log lists
MIXING = "MultiImageMixDataset"


@DATASETS.register_module(force=True)
class RepeatedImages(ClassBalancedDataset):
    """mmengine's ClassBalancedDataset. Its pipeline is that of its images, so that PipelineSwitchHook can change it.

    Attributes:
        images_of: how many images have a class, by its index, before any repeats.
    """

    images_of: Counter

    @property
    def pipeline(self) -> Any:
        return self.dataset.pipeline

    @pipeline.setter
    def pipeline(self, steps: Any) -> None:
        self.dataset.pipeline = steps

    def classes_in(self, dataset: Any) -> Iterable[Sequence[int]]:
        """The class indices of each image, in the order of the data set."""
        return (dataset.get_cat_ids(index) for index in range(len(dataset)))

    def _get_repeat_factors(self, dataset: Any, repeat_thr: float) -> list[float]:
        found = [frozenset(labels) for labels in self.classes_in(dataset)]  # mmengine's method asks twice
        self.images_of = Counter(label for labels in found for label in labels)
        factors = {label: math.sqrt(repeat_thr * len(found) / count) for label, count in self.images_of.items()}
        return [max([1.0, *(factors[label] for label in labels)]) for labels in found]


def use_repeats(cfg: Any, kind: str) -> None:
    """Carries out ``cfg.oversample_thr``, in place. False takes repeats out, and None leaves the config as it is.

    Args:
        cfg: the config.
        kind: the wrapper's type.

    Raises:
        UserError: the value is no number above 0 and up to 1, or the training has not just one data set.
    """
    threshold, loader = cfg.get("oversample_thr"), cfg.get("train_dataloader")
    check_number("oversample_thr", threshold, float, "numbers above 0, up to 1, and False")
    if threshold is None or loader is None:
        return
    single(loader, "oversample_thr")
    owner = loader.dataset if kind_of(loader.dataset) == MIXING else loader
    if kind_of(owner.dataset) == kind:
        owner.dataset = owner.dataset.dataset
    if threshold:
        owner.dataset = ConfigDict(type=kind, oversample_thr=threshold, dataset=owner.dataset)


def check_number(name: str, value: Any, kind: type, allowed: str) -> None:
    """Raises UserError for a value that is neither None nor False nor a number of the kind in its range."""
    if value is None or value is False:
        return
    number = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    if not number or not value > 0 or (kind is float and value > 1):
        raise UserError(f"{name}={shown(value)}; allowed: {allowed}")


def single(loader: Any, option: str) -> Any:
    """The training data set inside the wrappers of options.

    Raises:
        UserError: the loader has several data sets, or a wrapper of the user's.
    """
    dataset = loader.dataset
    while kind_of(dataset) == MIXING or kind_of(dataset).startswith("Repeated"):
        dataset = dataset.dataset
    if dataset.get("datasets") or dataset.get("dataset"):
        raise UserError(f"{option} takes one training data set, and train_dataloader.dataset is {kind_of(dataset)}")
    return dataset


def tell_repeats(dataset: Any) -> None:
    """Says which images repeat how often, and which classes are the rarest. ``dataset`` is built, in its wrappers."""
    while dataset is not None:
        if isinstance(dataset, RepeatedImages):
            tell(repeats_of(dataset))
        dataset = getattr(dataset, "dataset", None)


def repeats_of(dataset: RepeatedImages) -> str:
    times = Counter(dataset.repeat_indices)
    groups = defaultdict(list)
    for index, count in times.items():
        groups[count].append(index)
    groups.pop(1, None)
    parts = [
        f"{count} times {len(groups[count])} ({shorten(name_of(dataset.dataset, i) for i in groups[count])})"
        for count in sorted(groups)
    ]
    listed = ", ".join(parts[:GROUPS]) + (f", ... up to {max(groups)} times" if len(parts) > GROUPS else "")
    repeated = sum(map(len, groups.values()))
    names = dataset.metainfo.get("classes") or ()
    fewest = sorted(dataset.images_of.items(), key=lambda pair: pair[::-1])[:RAREST]
    rarest = ", ".join(
        f"{names[label] if label < len(names) else label} {count} image{'s' * (count != 1)}" for label, count in fewest
    )
    return (
        f"oversample_thr={dataset.oversample_thr:g}: {repeated} of {len(times)} images repeat, "
        f"{len(dataset)} are an epoch{': ' if listed else ''}{listed}; rarest: {rarest or 'no class has an image'}"
    )


def name_of(dataset: Any, index: int) -> str:
    """The name of an image's file."""
    samples = getattr(dataset, "samples", None)
    return Path(dataset.get_data_info(index)["img_path"] if samples is None else samples[index][0]).name


def tell(line: str) -> None:
    """Says a line on the console, and in the run's log."""
    say_note(line)
    print_log(line, logger="current")

"""Test sets beside ImageNet's validation images: ImageNet-V2, -R and -A as class folders, and ImageNet-Real's labels.

Which class a folder stands for follows from the names of the folders and of the model's classes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import ConfigDict

from backbones.errors import UserError, shorten
from classification.data import class_folders
from classification.imagenet import synsets


def folders_of(root: Path, names: Sequence[str]) -> list[str]:
    """The name of each class's folder in ``root``, by the class's index. A class may be without a folder.

    The folders have the names of the classes. Where the classes are ImageNet's 1000, the folders may also be numbers
    from 0 to 999, as in ImageNet-V2.

    Raises:
        UserError: a folder stands for no class.
    """
    found = class_folders(root)
    strangers = sorted(set(found) - set(names))
    if not strangers:
        return list(names)
    if set(names) == set(synsets()) and all(name.isdecimal() and int(name) < len(names) for name in found):
        numbered = {int(name): name for name in found}  # "10" is class 10, whatever its place among sorted names
        if len(numbered) == len(found):
            return [numbered.get(number, str(number)) for number in map(synsets().index, names)]
    raise UserError(f"{root} has folders that name no class of the weights: {shorten(strangers)}")


def use_images(cfg: Any, folder: str | Path, names: Sequence[str]) -> None:
    """Makes a config test on the class folders in ``folder``, by changing it in place.

    Where only some of the classes have a folder, only these may be predicted. ImageNet-R and ImageNet-A, which have 200
    of ImageNet's classes, are meant so by their authors.

    Args:
        cfg: a completed config.
        folder: holds one folder of images per class.
        names: the names of the model's classes, by index.

    Raises:
        UserError: there is no such folder, or a folder in it stands for no class.
    """
    given = cfg.test_dataloader.dataset
    classes = folders_of(Path(folder), names)
    there = set(class_folders(Path(folder)))
    cfg.test_dataloader.dataset = ConfigDict(
        type="ImageFolder",
        data_root=str(folder),
        folder=".",
        classes=classes,
        transform=given.transform,
        reading=given.get("reading"),
    )
    for metric in metrics_of(cfg):
        allowed = metric.get("subset") or range(len(classes))
        subset = [index for index in allowed if classes[index] in there]
        metric.subset = subset if len(subset) < len(classes) else None


def metrics_of(cfg: Any) -> list[Any]:
    """The configs of the test's metrics that take ``subset``."""
    given = cfg.test_evaluator if isinstance(cfg.test_evaluator, list | tuple) else [cfg.test_evaluator]
    return [metric for metric in given if metric.get("type") in ("Accuracy", "CalibrationError", "Report")]

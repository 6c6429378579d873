"""Test-time augmentation of classifiers: the mean of the scores of several views of an image."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.model import BaseTTAModel
from mmengine.registry import DATASETS
from PIL import Image
from torch.utils.data import Dataset
from torchvision.transforms import CenterCrop, Compose, FiveCrop

from backbones.errors import UserError, unknown
from ziggurat.engine.splits import datasets_of

VIEWS = {"flip": (1, True), "five": (5, False), "ten": (5, True)}  # --tta's word -> (crops, whether they are mirrored)


def number_of_views(word: str) -> int:
    crops, mirrored = VIEWS[word]
    return crops * (2 if mirrored else 1)


class AveragedViews(BaseTTAModel):
    """A classifier whose scores are the mean over the views of an image.

    Args:
        module: the classifier, or its config.
        views: ``"flip"``: the image and its mirror image. ``"five"``: the five crops that :class:`FiveCrops` gives.
            ``"ten"``: these crops and their mirror images.
    """

    def __init__(self, module: Any, views: str = "flip", **kwargs: Any):
        super().__init__(module, **kwargs)
        self.crops, self.flip = VIEWS[views]

    def test_step(self, data: dict[str, Any]) -> list[dict[str, Any]]:
        """The predictions of a batch whose ``inputs`` are (B, 3, H, W), or (B, 5, 3, H, W) for crops."""
        views = list(data["inputs"].unbind(1)) if self.crops > 1 else [data["inputs"]]
        views += [view.flip(-1) for view in views] if self.flip else []
        predictions = [self.module.test_step({**data, "inputs": view}) for view in views]
        return self.merge_preds(list(zip(*predictions, strict=True)))

    def merge_preds(self, data_samples_list: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
        """One prediction for each image, from those of its views."""
        merged = []
        for views in data_samples_list:
            scores = torch.stack([view["scores"] for view in views]).mean(dim=0)
            merged.append({**views[0], "scores": scores, "pred_label": int(scores.argmax())})
        return merged


class FiveCrops(Dataset):
    """The items of another data set, with five crops in ``inputs``, (5, 3, H, W): four corners and the centre.

    Args:
        dataset: config of a data set of images whose ``transform`` is a test transform of timm's.

    Raises:
        UserError: the transform does not crop.
    """

    def __init__(self, dataset: dict[str, Any]):
        self.images = DATASETS.build(dataset)
        self.images.transform = with_five_crops(getattr(self.images, "transform", None))

    @property
    def metainfo(self) -> dict[str, Any]:
        return self.images.metainfo

    @property
    def samples(self) -> Sequence[tuple[str, int]]:
        return self.images.samples

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.images[index]


def with_five_crops(transform: Any) -> Compose:
    """A test transform that gives five crops in place of the central one. UserError if it has no central crop."""
    steps = list(transform.transforms) if isinstance(transform, Compose) else []
    place = next((i for i, step in enumerate(steps) if isinstance(step, CenterCrop)), None)
    if place is None:
        raise UserError("--tta five and ten need a transform with a central crop; allowed here: --tta flip")
    return Compose([*steps[:place], FiveCrop(steps[place].size), Stacked(Compose(steps[place + 1 :]))])


class Stacked:
    """Turns each of several images into a tensor by a transform, and stacks the tensors."""

    def __init__(self, transform: Callable[[Image.Image], Any]):
        self.transform = transform

    def __call__(self, images: Sequence[Image.Image]) -> torch.Tensor:
        return torch.stack([torch.as_tensor(self.transform(image)) for image in images])


def use_views(cfg: Any, word: str) -> None:
    """Makes a config test on several views of each image, in place.

    Args:
        cfg: a completed config.
        word: as ``views`` of :class:`AveragedViews`.

    Raises:
        UserError: another word, or the crop is the whole image.
    """
    if word not in VIEWS:
        raise unknown("choice of --tta", word, VIEWS)
    for dataset in list(datasets_of(cfg, "test")) if VIEWS[word][0] > 1 else ():
        transform = dataset.get("transform") or {}
        if transform.get("crop_pct") == 1 and transform.get("crop_mode") == "squash":
            raise UserError(f"--tta {word}: these weights take whole images, without a crop; allowed: flip")
        inner = ConfigDict(dataset)
        dataset.clear()
        dataset.update(type="FiveCrops", dataset=inner)
    cfg.model = ConfigDict(type="AveragedViews", views=word, module=cfg.model)

"""Test-time augmentation of classifiers: the mean of the scores of several views of an image."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.model import BaseTTAModel
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, FiveCrop

from backbones.errors import UserError, unknown
from engine.splits import datasets_of

VIEWS = {"flip": (1, True), "five": (5, False), "ten": (5, True)}  # --tta's word -> (crops, whether they are mirrored)


class AveragedViews(BaseTTAModel):
    """A classifier whose scores are the mean over crops of an image, and over their mirror images.

    Args:
        module: the classifier, or its config.
        flip: whether the mirror image of every crop is a view, too.
    """

    def __init__(self, module: Any, flip: bool = False, **kwargs: Any):
        super().__init__(module, **kwargs)
        self.flip = flip

    def test_step(self, data: dict[str, Any]) -> list[dict[str, Any]]:
        """The predictions of a batch whose ``inputs`` are (B, 3, H, W), or (B, crops, 3, H, W)."""
        inputs = data["inputs"]
        views = list(inputs.unbind(1)) if inputs.ndim == 5 else [inputs]
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


def with_five_crops(transform: Compose) -> Compose:
    """A test transform of timm's with the four corners and the centre, (5, 3, H, W), in place of the centre's crop.

    Raises:
        UserError: the transform does not crop, or crops nothing off.
    """
    steps = list(transform.transforms)
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
        word: ``"flip"``: the image and its mirror image. ``"five"``: corners and centre. ``"ten"``: both.

    Raises:
        UserError: another word, or the crop is the whole image.
    """
    if word not in VIEWS:
        raise unknown("choice of --tta", word, VIEWS)
    crops, flip = VIEWS[word]
    for dataset in datasets_of(cfg, "test"):
        if crops == 1:
            continue
        if dataset.transform.get("crop_pct") == 1 and dataset.transform.get("crop_mode") == "squash":
            raise UserError(f"--tta {word}: these weights take whole images, without a crop; allowed: flip")
        dataset.transform.five_crops = True
    cfg.model = ConfigDict(type="AveragedViews", flip=flip, module=cfg.model)

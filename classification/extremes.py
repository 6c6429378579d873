"""The most confidently wrong and right images of an evaluation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from backbones.pixels import picture
from classification.data.samples import UNSCORED
from classification.imagenet import word_of
from classification.metrics import ScoredImages
from classification.real_labels import RealLabels
from ziggurat.engine.draw import percent
from ziggurat.engine.extremes import ExtremesHook, Judged
from ziggurat.engine.sheet import Tile

GREEN, RED = (70, 170, 90), (215, 70, 60)


class ImagesHook(ExtremesHook):
    """Shows the images that a classifier is most sure of, wrongly and rightly.

    The quality of a right image is its best score. That of a wrong image is minus its best score.
    """

    titles = {"worst": "Wrong, with the highest score first", "best": "Right, with the highest score first"}

    def judge(
        self, loop: Any, outputs: Sequence[dict[str, Any]], indices: Sequence[int]
    ) -> list[tuple[float, dict[str, Any]] | None]:
        metric = next((one for one in loop.evaluator.metrics if isinstance(one, ScoredImages)), None)
        if metric is None or any(output["label"] is None for output in outputs):
            return []
        readable = [output for output in outputs if output["label"] != UNSCORED]
        if not readable:
            return [None] * len(outputs)
        scores, truth = metric.scored(readable)
        best = scores.max(dim=1)
        judged = []
        for row, right, score, index in zip(scores, truth, best.values.tolist(), best.indices.tolist()):
            labels = right.nonzero().flatten().tolist()
            is_right = index in labels
            facts = dict(right=is_right, predicted=index, score=score, true=labels, true_score=row[labels].max().item())
            judged.append((score if is_right else -score, facts))
        found = iter(judged)
        return [None if output["label"] == UNSCORED else next(found) for output in outputs]

    def tile(self, dataset: Any, image: Judged) -> Tile:
        about = self.describe(dataset, image)
        lines = [f"predicted: {word_of(about['predicted'])}, {percent(about['score'])}"]
        if not about["right"]:
            true = " or ".join(word_of(name) for name in about["true"])
            lines.append(f"true: {true}, {percent(about['true_score'])}")
        path = Path(about["image"])
        lines.append("/".join(path.parts[-2:]))
        return Tile(picture_of(dataset[image.index]["inputs"]), lines, GREEN if about["right"] else RED)

    def describe(self, dataset: Any, image: Judged) -> dict[str, Any]:
        classes = dataset.metainfo["classes"]
        facts = image.facts
        named = dict(predicted=str(classes[facts["predicted"]]), true=[str(classes[label]) for label in facts["true"]])
        return {"image": name_of(dataset, image.index), **facts, **named}

    def marks(self, dataset: Any, image: Judged) -> dict[str, list[str]]:
        about = self.describe(dataset, image)
        return {
            "answer": ["right" if about["right"] else "wrong"],
            "true class": [word_of(name) for name in about["true"]],
            "predicted class": [word_of(about["predicted"])],
        }


def name_of(dataset: Any, index: int) -> str:
    """The path of an image, or what else the data set calls it."""
    if isinstance(dataset, RealLabels):
        return name_of(dataset.images, dataset.indices[index])
    samples = getattr(dataset, "samples", None)
    return str(samples[index][0]) if samples is not None else f"image {index}"


def picture_of(inputs: Any) -> Image.Image:
    """The image of an item's ``inputs``: uint8 (C, H, W), or the last of several crops (N, C, H, W)."""
    crop = inputs[-1] if inputs.ndim == 4 else inputs
    return picture(crop.permute(1, 2, 0).numpy())

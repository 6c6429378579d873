"""What kinds of errors a detector makes, and what each kind costs: TIDE (Bolya et al., 2020, arXiv 2008.08115)."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detection.coco_truth import overlaps

ERRORS = {
    "classification": "on an object of another class, IoU 0.5 or more",
    "localisation": "on an object of its class, IoU 0.1 to 0.5",
    "both": "on an object of another class, IoU 0.1 to 0.5",
    "duplicate": "on an object that a better prediction has found",
    "background": "on no object, IoU 0.1 or less",
    "missed": "an object that no prediction came near",
}
HIT, NEAR = 0.5, 0.1  # IoU of a found object, and of one that a prediction may have meant
RECALLS = np.linspace(0, 1, 101)


@dataclass
class Prediction:
    """A prediction as it was judged.

    Attributes:
        category: that was predicted.
        score: 0..1.
        error: one of ``ERRORS``; None for a found object.
        mends: (object, category) that the prediction would have found without its error; None if another would.
    """

    category: int
    score: float
    error: str | None = None
    mends: tuple[int, int] | None = None


@dataclass
class Errors:
    """The errors of a whole data set.

    Attributes:
        predictions: all that count, by image and score.
        missed: the category of each missed object.
        positives: category -> number of objects.
    """

    predictions: list[Prediction] = field(default_factory=list)
    missed: list[int] = field(default_factory=list)
    positives: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    def count(self, error: str) -> int:
        """How often an error was made."""
        return len(self.missed) if error == "missed" else sum(one.error == error for one in self.predictions)

    def by_category(self) -> Counter[tuple[str, int]]:
        """How often each error was made, with predictions of each category, or with missed objects of it."""
        wrong = Counter((one.error, one.category) for one in self.predictions if one.error)
        return wrong + Counter(("missed", category) for category in self.missed)

    def average_precision(self, mended: str | None = None) -> float | None:
        """AP at IoU 0.5, the mean over classes with objects, in 0..1; None without objects.

        Args:
            mended: an error to mend: each such prediction finds its object, or is dropped where another would find the
                object. Missed objects are taken out.
        """
        best: dict[int, float] = {}  # of the predictions that would find an object, the one with the highest score does
        for one in self.predictions:
            if one.mends and one.score > best.get(one.mends[0], -1):
                best[one.mends[0]] = one.score
        positives = dict(self.positives)
        for category in self.missed if mended == "missed" else ():
            positives[category] -= 1
        points: dict[int, list[tuple[float, bool]]] = defaultdict(list)
        for one in self.predictions:
            if one.error is None or one.error != mended:
                points[one.category].append((one.score, one.error is None))
            elif one.mends and best.get(one.mends[0]) == one.score:
                del best[one.mends[0]]
                points[one.mends[1]].append((one.score, True))
        found = [precision(points[category], count) for category, count in positives.items() if count]
        return float(np.mean(found)) if found else None

    def gains(self) -> dict[str, float]:
        """By how much AP at IoU 0.5 would rise without an error, in 0..1. The gains have no meaningful sum."""
        now = self.average_precision()
        if now is None:
            return dict.fromkeys(ERRORS, 0.0)
        # Without all objects of a class being missed there may be no object left; then nothing is lost.
        return {name: max(0.0, (self.average_precision(name) or now) - now) for name in ERRORS}


def precision(points: Sequence[tuple[float, bool]], positives: int) -> float:
    """COCO's AP: the mean precision at 101 recalls. ``points``: score, and whether an object was found."""
    if not points:
        return 0.0
    order = np.argsort([-score for score, _ in points], kind="stable")
    hits = np.cumsum(np.array([hit for _, hit in points])[order])
    curve = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    places = np.searchsorted(hits / positives, RECALLS)
    return float(np.append(curve, 0)[np.minimum(places, len(curve))].mean())


def errors_of(truth: dict[str, Any], found: Sequence[dict[str, Any]], most: int, masks: bool) -> Errors:
    """Judges predictions.

    Args:
        truth: from ``coco_truth.truth_of``.
        found: from ``coco_truth.found_of``.
        most: number of predictions of an image that count, the best first.
        masks: whether the IoU is that of masks, and not of boxes.
    """
    given, predicted = defaultdict(list), defaultdict(list)
    for one in truth["annotations"]:
        given[one["image_id"]].append(one)
    for one in found:
        predicted[one["image_id"]].append(one)
    errors = Errors()
    for image in truth["images"]:
        best = sorted(predicted[image["id"]], key=lambda one: -one["score"])[:most]
        judge_image(errors, given[image["id"]], best, masks)
    return errors


def judge_image(errors: Errors, given: list[dict[str, Any]], found: list[dict[str, Any]], masks: bool) -> None:
    """Adds the errors of an image. A prediction inside a crowd of its class is none, as in COCO's evaluation."""
    objects = [one for one in given if not one["iscrowd"]]
    for one in objects:
        errors.positives[one["category_id"]] += 1
    ious = overlaps(found, given, masks)
    crowds = ious[:, [bool(one["iscrowd"]) for one in given]]
    crowd_class = [one["category_id"] for one in given if one["iscrowd"]]
    ious = ious[:, [not one["iscrowd"] for one in given]]
    same = np.array([[d["category_id"] == g["category_id"] for g in objects] for d in found], bool)
    same = same.reshape(len(found), len(objects))
    free = np.ones(len(objects), bool)
    hits = np.zeros(len(found), bool)
    for i in range(len(found)):
        match = np.where(same[i] & free, ious[i], 0)
        if match.size and match.max() >= HIT:
            free[match.argmax()] = False
            hits[i] = True
    meant: set[int] = set()
    for i, one in enumerate(found):
        inside = [share > HIT and kind == one["category_id"] for share, kind in zip(crowds[i], crowd_class)]
        if not hits[i] and any(inside):
            continue
        made = Prediction(one["category_id"], one["score"])
        errors.predictions.append(made)
        if not hits[i]:
            made.error, index = error_of(ious[i], same[i], free)
            if index is not None and free[index]:
                meant.add(index)
                made.mends = (objects[index]["id"], objects[index]["category_id"])
    errors.missed += [one["category_id"] for i, one in enumerate(objects) if free[i] and i not in meant]


def error_of(ious: np.ndarray, same: np.ndarray, free: np.ndarray) -> tuple[str, int | None]:
    """The error of a prediction that found nothing, and the index of the object that was meant, if there is one.

    Args:
        ious: (M,) with the objects of its image.
        same: (M,) whether an object has the predicted class.
        free: (M,) whether no prediction has found the object.
    """
    if not ious.size or ious.max() <= 0:
        return "background", None
    own, other = np.where(same, ious, 0), np.where(same, 0, ious)
    if NEAR <= own.max() <= HIT:
        return "localisation", int(own.argmax())
    if other.max() >= HIT:
        return "classification", int(other.argmax())
    if np.where(free, 0, own).max() >= HIT:
        return "duplicate", None
    return ("background", None) if ious.max() <= NEAR else ("both", None)

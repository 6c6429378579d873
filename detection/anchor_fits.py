"""How anchors are fitted to boxes, for each of mmdet's generators: scales and ratios, sizes of SSD, sizes of YOLO."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from mmdet.registry import TASK_UTILS

from detection.anchor_recall import Levels, Truth, levels_of, overlaps, sides_of

SHIFTS = np.linspace(-3, 1, 17) * np.log(2)  # of all sizes, at a search's start
TRIES = 200
RESTARTS, ROUNDS = 8, 100  # of k-means
REPLACED = ("octave_base_scale", "scales_per_octave", "basesize_ratio_range", "input_size")


def built(generator: Mapping[str, Any], **settings: Any) -> tuple[dict[str, Any], Any]:
    """A generator's config with other settings, and mmdet's generator."""
    kept = {key: value for key, value in generator.items() if not settings or key not in REPLACED}
    config = {**kept, **settings}
    return config, TASK_UTILS.build({"_scope_": "mmdet", **config})


def value(levels: Levels, truth: Truth, threshold: float) -> float:
    """What a fit makes large: the recall and the mean IoU."""
    found = overlaps(levels, truth)
    return float((found >= threshold).mean() + found.mean())


def climbed(starts: Sequence[np.ndarray], worth: Callable[[np.ndarray], float]) -> np.ndarray:
    """The best of the starts, and then of random steps from it, with the same random numbers each time."""
    rng = np.random.default_rng(0)
    best = max(starts, key=worth)
    most = worth(best)
    for step in range(TRIES):
        tried = best + rng.normal(0, 0.3 * (1 - step / TRIES) + 0.02, len(best))
        if (reached := worth(tried)) > most:
            best, most = tried, reached
    return best


def fitted_scales(generator: Mapping[str, Any], truth: Truth, threshold: float) -> dict[str, Any]:
    """As many scales and ratios for mmdet's ``AnchorGenerator``, found by a search in log space."""
    _, made = built(generator)
    levels, bases = levels_of(made), np.array(made.base_sizes, float)
    scales, ratios = made.scales.numpy().astype(float), made.ratios.numpy().astype(float)
    count, sides = len(scales), sides_of(truth)

    def worth(point: np.ndarray) -> float:
        roots = np.exp(point[count:] / 2)
        shapes = (np.exp(point[:count])[:, None, None] * np.stack([1 / roots, roots], axis=1)).reshape(-1, 2)
        return value(levels._replace(sides=[base * shapes for base in bases]), truth, threshold)

    typical = np.quantile(np.log(sides[:, 1] / sides[:, 0]), middles(len(ratios)))
    starts = [np.concatenate([np.log(scales) + shift, kind]) for shift in SHIFTS for kind in (np.log(ratios), typical)]
    found = np.exp(climbed([np.concatenate([np.log(scales), np.log(ratios)]), *starts], worth))
    return {
        "scales": np.sort(found[:count]).round(3).clip(min=0.001).tolist(),
        "ratios": np.sort(found[count:]).round(3).clip(min=0.001).tolist(),
    }


def fitted_sizes(generator: Mapping[str, Any], truth: Truth, threshold: float) -> dict[str, Any]:
    """``min_sizes`` and ``max_sizes`` for mmdet's ``SSDAnchorGenerator``. The ratios stay.

    A level's largest size is the smallest one of the next coarser level. The search in log space starts from quantiles
    of the objects' scale, the root of the area, and from the generator's own sizes.
    """
    _, made = built(generator)
    order = by_stride(made)
    first = np.array(made.base_sizes, float)[order]
    last = first[-1] * float(made.scales[order[-1]][-1]) ** 2
    own, sides = np.log(np.append(first, last)), sides_of(truth)
    typical = np.quantile(np.log(sides.prod(axis=1)) / 2, middles(len(own)))

    ones = [1.0] * len(order)
    levels, doubled = (levels_of(built(generator, min_sizes=ones, max_sizes=[top] * len(order))[1]) for top in (1, 4))
    between = [np.log2(two / one) for one, two in zip(levels.sides, doubled.sides, strict=True)]  # 0, 1 for the mean

    def sizes(point: np.ndarray) -> dict[str, list[float]]:
        bounds = np.sort(np.exp(point)).round(2).clip(min=0.01).tolist()
        return {"min_sizes": in_order(bounds[:-1], order), "max_sizes": in_order(bounds[1:], order)}

    def worth(point: np.ndarray) -> float:
        each = zip(*sizes(point).values(), levels.sides, between, strict=True)
        sized = [low * shapes * (high / low) ** (power / 2) for low, high, shapes, power in each]
        return value(levels._replace(sides=sized), truth, threshold)

    return sizes(climbed([typical, own, *(own + shift for shift in SHIFTS)], worth))


def fitted_base_sizes(generator: Mapping[str, Any], truth: Truth, threshold: float) -> dict[str, Any]:
    """``base_sizes`` for mmdet's ``YOLOAnchorGenerator``: means of clusters, the largest on the coarsest level.

    The clusters are those of k-means with 1 - IoU for a distance, as in YOLOv2. They start from the generator's own
    sizes, from quantiles of the boxes by area, and from random boxes that are far apart.
    """
    _, made = built(generator)
    levels, order, sides = levels_of(made), by_stride(made), sides_of(truth)
    own, rng = np.concatenate(levels.sides), np.random.default_rng(0)
    count, by_area = len(own), sides[np.argsort(sides.prod(axis=1), kind="stable")]
    starts = [own, by_area[(middles(count) * len(sides)).astype(int)]]
    starts += [far_apart(sides, count, rng) for _ in range(RESTARTS)]

    def dealt(sizes: np.ndarray) -> list[np.ndarray]:
        sizes = sizes[np.argsort(sizes.prod(axis=1), kind="stable")].round(2).clip(min=0.01)
        return in_order(np.split(sizes, len(order)), order)

    found = [dealt(k_means(sides, start)) for start in starts]
    best = max(found, key=lambda sizes: value(levels._replace(sides=sizes), truth, threshold))
    return {"base_sizes": [sizes.tolist() for sizes in best]}


def k_means(sides: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(K, 2): the means of K clusters of widths and heights (N, 2), by the IoU of boxes with one corner in common.

    Each box belongs to the centre of the largest IoU. A centre without boxes stays.

    Args:
        sides: widths and heights, above 0.
        centres: (K, 2), where the search starts.
    """
    for _ in range(ROUNDS):
        nearest = shape_ious(sides, centres).argmax(axis=1)
        members = [sides[nearest == i] for i in range(len(centres))]
        means = np.stack([own.mean(axis=0) if len(own) else old for own, old in zip(members, centres, strict=True)])
        if np.allclose(means, centres):
            break
        centres = means
    return centres


def far_apart(sides: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, 2): random boxes, each likelier the less it overlaps those before, by the rule of k-means++."""
    chosen = sides[rng.integers(len(sides), size=1)]
    while len(chosen) < count:
        far = (1 - shape_ious(sides, chosen).max(axis=1)) ** 2 + 1e-9  # boxes may be alike
        chosen = np.concatenate([chosen, sides[rng.choice(len(sides), 1, p=far / far.sum())]])
    return chosen


def shape_ious(sides: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N, K): the IoU of boxes (N, 2) and (K, 2), widths and heights, that have one corner in common."""
    common = np.minimum(sides[:, None], others).prod(axis=2)
    return common / (sides.prod(axis=1)[:, None] + others.prod(axis=1) - common)


def middles(count: int) -> np.ndarray:
    """The middles of ``count`` equal parts of 0 to 1."""
    return (np.arange(count) + 0.5) / count


def by_stride(made: Any) -> np.ndarray:
    """The indices of a generator's levels, the finest first."""
    return np.argsort([min(stride) for stride in made.strides], kind="stable")


def in_order(values: Sequence[Any], order: np.ndarray) -> list[Any]:
    """Values of levels from the finest to the coarsest, put into the order of the generator's levels."""
    return [values[place] for place in np.argsort(order)]


FITS = {
    "AnchorGenerator": fitted_scales,
    "SSDAnchorGenerator": fitted_sizes,
    "YOLOAnchorGenerator": fitted_base_sizes,
}

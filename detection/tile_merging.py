"""Objects that several tiles of an image show: the detections of one object are found, and become one.

Detections of one tile stay as they are, since the detector has compared them. Two detections of different tiles are
compared inside the pixels that both tiles show. There the same object has about the same box, also if a tile's border
cuts the object.
"""

from typing import NamedTuple

import numpy as np

MATCH = 0.5  # overlap from which two boxes are of one object
BORDER = 0.01  # of a tile's shorter side: a box that ends this near to a border of its tile may be cut by the border
BORDER_PIXELS = 2.0  # the least such distance


class Cluster(NamedTuple):
    """The detections of one object.

    Attributes:
        members: their indices. If a tile shows the object whole, the first one is of that tile.
        whole: whether that is so. Otherwise each member is a part of the object.
        score: the highest of the members.
    """

    members: list[int]
    whole: bool
    score: float


def clusters_of(
    boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, tiles: np.ndarray, windows: np.ndarray, size: tuple
) -> list[Cluster]:
    """The objects of an image, the highest score first.

    Args:
        boxes: (N, 4) float; x1, y1, x2, y2 in the image's pixels.
        scores: (N,) float.
        labels: (N,) int. Objects of different classes are never joined.
        tiles: (N,) int, the tile of each detection.
        windows: (T, 4) int; x1, y1, x2, y2 of the tiles.
        size: (height, width) of the image.
    """
    cut = is_cut(boxes, windows[tiles], size)
    neighbours = matches(boxes, labels, tiles, windows, cut)
    free = np.ones(len(boxes), bool)
    clusters = []
    for i in np.lexsort((-scores, cut)).tolist():  # whole objects first, the best ones first
        if not free[i]:
            continue
        members = whole_members(i, neighbours, free, cut, tiles) if not cut[i] else parts(i, neighbours, free, tiles)
        free[members] = False
        clusters.append(Cluster(members, not cut[i], float(scores[members].max())))
    return sorted(clusters, key=lambda one: -one.score)


def whole_members(
    first: int, neighbours: dict[int, list[tuple[float, int]]], free: np.ndarray, cut: np.ndarray, tiles: np.ndarray
) -> list[int]:
    """A whole object, the most similar whole one of each other tile, and all parts of it."""
    members, seen = [first], {int(tiles[first])}
    for _, j in sorted(neighbours.get(first, ()), reverse=True):
        if free[j] and (cut[j] or int(tiles[j]) not in seen):
            members.append(j)
            if not cut[j]:
                seen.add(int(tiles[j]))
    return members


def parts(first: int, neighbours: dict[int, list[tuple[float, int]]], free: np.ndarray, tiles: np.ndarray) -> list[int]:
    """The parts of an object that no tile shows whole, at most one of each tile. Each part adjoins another one."""
    members, seen = [first], {int(tiles[first])}
    for i in members:  # grows
        for _, j in sorted(neighbours.get(i, ()), reverse=True):
            if free[j] and int(tiles[j]) not in seen:
                members.append(j)
                seen.add(int(tiles[j]))
    return members


def is_cut(boxes: np.ndarray, windows: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(N,) bool: whether a box ends at a border of its tile that is not the image's border."""
    height, width = size
    sides = (windows[:, 2:] - windows[:, :2]).min(1, keepdims=True)
    inwards = np.array([1, 1, -1, -1])
    near = (boxes - windows) * inwards <= np.maximum(BORDER * sides, BORDER_PIXELS)
    return (near & (windows != np.array([0, 0, width, height]))).any(1)


def matches(
    boxes: np.ndarray, labels: np.ndarray, tiles: np.ndarray, windows: np.ndarray, cut: np.ndarray
) -> dict[int, list[tuple[float, int]]]:
    """For a detection the detections of other tiles that may be of the same object, each with the boxes' overlap.

    The overlap is IoU between whole boxes. A box that is cut may be smaller than the object's box there, since its tile
    shows less of the object. So the overlap with a whole box is the share of the cut one that lies inside, and of two
    cut boxes the share of the smaller one.
    """
    order = np.argsort(tiles, kind="stable")
    numbers, starts = np.unique(tiles[order], return_index=True)
    of_tile = dict(zip(numbers.tolist(), np.split(order, starts[1:])))
    found: dict[int, list[tuple[float, int]]] = {}
    for place, s in enumerate(of_tile, 1):
        later = numbers[place:]
        shared = np.concatenate(
            [np.maximum(windows[s, :2], windows[later, :2]), np.minimum(windows[s, 2:], windows[later, 2:])], 1
        )
        near = (shared[:, 2:] > shared[:, :2]).all(1)
        for t, common in zip(later[near].tolist(), shared[near]):
            first, second = of_tile[s], of_tile[t]
            a, b = clipped(boxes[first], common), clipped(boxes[second], common)
            both = area(
                np.concatenate([np.maximum(a[:, None, :2], b[:, :2]), np.minimum(a[:, None, 2:], b[:, 2:])], -1)
            )
            area_a, area_b, cut_a, cut_b = area(a)[:, None], area(b)[None], cut[first][:, None], cut[second][None]
            whole = np.where(cut_a, area_a, np.where(cut_b, area_b, area_a + area_b - both))
            whole = np.where(cut_a & cut_b, np.minimum(area_a, area_b), whole)
            overlap = np.divide(both, whole, out=np.zeros_like(both), where=whole > 0)
            overlap[labels[first][:, None] != labels[second]] = 0
            for row, column in zip(*np.nonzero(overlap >= MATCH)):
                i, j, value = int(first[row]), int(second[column]), float(overlap[row, column])
                found.setdefault(i, []).append((value, j))
                found.setdefault(j, []).append((value, i))
    return found


def clipped(boxes: np.ndarray, window: np.ndarray) -> np.ndarray:
    return np.clip(boxes, np.tile(window[:2], 2), np.tile(window[2:], 2))


def area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[..., 2:] - boxes[..., :2]).clip(0).prod(-1)

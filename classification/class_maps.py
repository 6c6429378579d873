"""Which rows of a classifier's head belong to the classes of another data set."""

from functools import cache
from importlib.resources import files
from pathlib import Path

from backbones.errors import UserError, shown
from backbones.weights.table import published_name

IMAGENET_1K = "imagenet1k"


def class_rows(class_map: str, rows: int, num_classes: int, where: str) -> list[int | None]:
    """The rows of a head that a new head takes: one for each of its classes, None for a class that the old head lacks.

    Args:
        class_map: ``"imagenet1k"``, for the 1000 classes of ImageNet-1K in the order of their synsets, or a text file
            with a row number, from 0, on each line.
        rows: the number of classes of the old head.
        num_classes: the number of classes of the new head.
        where: the name of the old head's weights in messages.

    Raises:
        UserError: the map is not known or malformed, does not belong to the old head, or has another number of classes.
    """
    if class_map == IMAGENET_1K:
        known = imagenet_1k_rows()
        if rows not in known:
            raise UserError(
                f"class_map={class_map!r} knows heads of {', '.join(map(str, known))} classes, and {where} has {rows}; "
                "give a file with a row number on each line, or add --reset-head"
            )
        found = known[rows]
    else:
        found = rows_of_file(class_map)
    if len(found) != num_classes:
        raise UserError(f"class_map={class_map!r} is for {len(found)} classes, and the model has {num_classes}")
    wrong = [row for row in found if row is not None and not 0 <= row < rows]
    if wrong:
        raise UserError(f"class_map={class_map!r} names row {wrong[0]}; allowed: 0 to {rows - 1}, the rows of {where}")
    return found


@cache
def imagenet_1k_rows() -> dict[int, list[int | None]]:
    """The rows of ImageNet-1K's classes in larger heads: number of the head's classes -> rows."""
    larger = {rows: names for rows, names in known_heads().items() if rows != len(synsets("imagenet"))}
    places = {rows: {name: row for row, name in enumerate(names)} for rows, names in larger.items()}
    return {rows: [place.get(name) for name in synsets("imagenet")] for rows, place in places.items()}


@cache
def known_heads() -> dict[int, list[str]]:
    """The synsets of the classes of published heads, in their order: number of the head's classes -> synsets.

    - 1000: ImageNet-1K.
    - 10459: HorNet's weights of ImageNet-22K. Their classes are those of ImageNet-21K-P (the winter 2021 release, 10450
      synsets), then the 9 of ImageNet-1K that it lacks. ``in1k_to_21k_map.pth`` in raoyongming/HorNet@ac9e210 has the
      same rows.
    - 21841: ImageNet's release of fall 2011, sorted. It lacks n04399382, the teddy bear.
    - 21842: Microsoft's order of the same release.

    The lists of synsets are timm's (huggingface/pytorch-image-models, timm/data/_info).
    """
    imagenet = synsets("imagenet")
    processed = synsets("imagenet21k_miil_w21")
    hornet = processed + [name for name in imagenet if name not in set(processed)]
    return {len(names): names for names in (imagenet, hornet, synsets("imagenet22k"), synsets("imagenet22k_ms"))}


def classes_of_published(arch: str, source: object, rows: int) -> list[str] | None:
    """The synsets of the classes of published weights, in the order of the head's rows; None if they are not known.

    Args:
        arch: the arch of the weights.
        source: the weights: a name of the table, or a URL or file with the name of a published file.
        rows: the number of classes of the head.
    """
    return known_heads().get(rows) if published_name(arch, source) else None


def synsets(name: str) -> list[str]:
    """The WordNet synsets of a data set's classes, in the order of their indices."""
    return (files("timm.data") / "_info" / f"{name}_synsets.txt").read_text().split()


def rows_of_file(path: str) -> list[int | None]:
    """The row numbers in a text file, one on each line."""
    try:
        return [int(line) for line in Path(path).read_text().split()]
    except OSError:
        raise UserError(f"no such class map: {shown(path)}; allowed: {IMAGENET_1K!r}, a text file") from None
    except ValueError as error:
        raise UserError(f"class map {path}: {error}; allowed: a row number on each line") from None

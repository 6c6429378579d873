"""The entries of a panoptic json, as far as checks before a run need them, and the order of its categories."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detection.coco_entries import Annotations, problem, repeated_entries
from detection.coco_file import read_content
from detection.spots import Spot, spots_of
from ziggurat.engine.coco_schema import ID, Rules, check_form, is_box, is_integer, is_name, is_number

COLOURS = 1 << 24  # the id of a segment is a colour of the map


def things_first(categories: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The categories of a file, all things before all stuff, and otherwise in the file's order."""
    return sorted(categories, key=lambda category: not category["isthing"])


def map_names(content: dict[str, Any]) -> dict[Any, str]:
    """The file name of each image's map, by the image's id, as the annotations give it.

    Without an annotation it is the name of the image, with the suffix .png.
    """
    names = {image["id"]: str(Path(image["file_name"]).with_suffix(".png")) for image in content["images"]}
    given = {one["image_id"]: one.get("file_name") for one in content.get("annotations") or []}
    return {number: given.get(number) or name for number, name in names.items()}


def read_panoptic(path: Path) -> tuple[Annotations, tuple[str, ...]]:
    """Reads a panoptic json, once per process: its content, and the names of the things.

    Raises:
        UserError: the file is missing, broken or malformed.
    """
    return read_content(path, summary)


def are_segments(value: Any) -> bool:
    """Whether these are dicts with the keys that every segment has."""
    return isinstance(value, list) and all(map(is_segment, value))


def is_segment(value: Any) -> bool:
    if not isinstance(value, dict) or not is_integer(value.get("category_id")) or not is_integer(value.get("id")):
        return False
    return 0 <= value["id"] < COLOURS and value.get("iscrowd") in (0, 1, None)


def has_extent(segment: dict[str, Any]) -> bool:
    return is_box(segment.get("bbox")) and is_number(segment.get("area"))


ANNOTATION: Rules = {
    "image_id": ID,
    "file_name": ("the name of a file", lambda value: not value or is_name(value)),
    "segments_info": (
        f"a list of dicts with category_id and id, from 0 to {COLOURS - 1}, iscrowd 0 or 1",
        are_segments,
    ),
}
CATEGORY: Rules = {"isthing": ("0, 1", lambda value: value in (0, 1))}


def summary(data: dict) -> tuple[Annotations, tuple[str, ...]]:
    check_form(data, ANNOTATION, CATEGORY)
    ordered = things_first(data["categories"])
    sizes = {image["id"]: (float(image["width"]), float(image["height"])) for image in data["images"]}
    names = {category["id"]: str(category["name"]) for category in ordered}
    annotations = data.get("annotations") or []
    segments = [segment for annotation in annotations for segment in annotation["segments_info"]]
    lost_images = sorted({str(a["image_id"]) for a in annotations if a["image_id"] not in sizes})
    lost_categories = sorted({str(s["category_id"]) for s in segments if s["category_id"] not in names})
    annotated = {annotation["image_id"] for annotation in annotations}
    malformed = [s["id"] for s in segments if not has_extent(s)]

    def seen(is_flawed: Callable[[dict[str, Any]], bool]) -> tuple[Spot, ...]:
        pairs = ((whole["image_id"], one) for whole in annotations for one in whole["segments_info"])
        return spots_of(({**one, "image_id": image} for image, one in pairs if is_flawed(one)), data["images"])

    found = (
        *repeated_entries(data),
        *problem("image-unknown", "annotations name image ids that are not in the list of images: {}", lost_images),
        *problem(
            "category-unknown",
            "segments name category ids that are not in the list of categories: {}",
            lost_categories,
            seen(lambda segment: segment["category_id"] not in names),
        ),
        *problem(
            "box-form",
            "a segment needs an area and bbox=[x, y, width, height]; not so in the segments {}",
            malformed,
            seen(lambda segment: not has_extent(segment)),
        ),
    )
    content = Annotations(
        categories=tuple(str(category["name"]) for category in ordered),
        file_names=tuple(image["file_name"] for image in data["images"]),
        sizes=tuple((float(image["width"]), float(image["height"])) for image in data["images"]),
        has_annotations=bool(segments),
        without_mask=0,
        problems=found,
        counts={} if found else dict(Counter(names[s["category_id"]] for s in segments if not s.get("iscrowd"))),
        map_names=tuple(map_names(data).values()),
        without_annotation=tuple(image["file_name"] for image in data["images"] if image["id"] not in annotated),
    )
    return content, tuple(str(category["name"]) for category in ordered if category["isthing"])

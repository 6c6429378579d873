"""The entries of a COCO annotation file, as far as checks before a run need them."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from backbones.errors import shorten
from detection.spots import Spot, spots_of
from ziggurat.engine.coco_masks import is_mask
from ziggurat.engine.coco_schema import ID, Rules, check_form, is_box, is_integer, is_number
from ziggurat.engine.findings import EXAMPLES


class Problem(NamedTuple):
    """What makes a file useless: a name for the kind, a message, the number of its entries, and where some are."""

    id: str
    text: str
    count: int
    spots: tuple[Spot, ...] = ()


class Annotations(NamedTuple):
    """The parts of a COCO file that the checks need.

    Attributes:
        categories: names, in the order of the file; of a panoptic file the things first.
        file_names: of the images, below the image folder.
        sizes: (width, height) of each image, in pixels.
        has_annotations: whether there is any annotation.
        without_mask: number of annotations without a segmentation.
        problems: what makes the file useless, the first of which makes the others uncertain.
        counts: how many objects of each category there are to train on. Crowds are none.
        unused: ids of annotations that mmdet does not train on: a side of the box is below one pixel, the area is 0,
            or the box lies outside the image.
        bad_masks: ids of annotations whose mask is neither polygons of three or more points nor run lengths of the
            image's size.
        map_names: of a panoptic file, the name of each image's map.
        without_annotation: of a panoptic file, the names of images without an annotation.
        spots: where the first annotations of ``unused``, ``bad_masks`` and ``without_mask`` are, by these names.
    """

    categories: tuple[str, ...]
    file_names: tuple[str, ...]
    sizes: tuple[tuple[float, float], ...]
    has_annotations: bool
    without_mask: int
    problems: tuple[Problem, ...]
    counts: dict[str, int]
    unused: tuple[Any, ...] = ()
    bad_masks: tuple[Any, ...] = ()
    map_names: tuple[str, ...] = ()
    without_annotation: tuple[str, ...] = ()
    spots: dict[str, tuple[Spot, ...]] = {}


OBJECT: Rules = {"id": ID, "image_id": ID, "category_id": ("an integer", is_integer)}


def summary(data: dict) -> Annotations:
    """What the checks need of a file whose images and categories are lists. Raises ``Flawed`` for an odd entry."""
    check_form(data, OBJECT)
    sizes = {image["id"]: (float(image["width"]), float(image["height"])) for image in data["images"]}
    names = {category["id"]: str(category["name"]) for category in data["categories"]}
    annotations = data.get("annotations") or []
    found = tuple(problems(data, annotations, sizes, names))
    unused = [] if found else [a for a in annotations if not is_used(a, *sizes[a["image_id"]])]
    ids = {a["id"] for a in unused}
    used = [] if found else [a for a in annotations if a["id"] not in ids and not a.get("iscrowd")]
    masks = [] if found else [a for a in annotations if a.get("segmentation")]
    bad = [a for a in masks if not is_mask(a["segmentation"], *sizes[a["image_id"]])]
    kinds = dict(unused=unused, bad_masks=bad, without_mask=(a for a in annotations if not a.get("segmentation")))
    return Annotations(
        categories=tuple(str(category["name"]) for category in data["categories"]),
        file_names=tuple(image["file_name"] for image in data["images"]),
        sizes=tuple((float(image["width"]), float(image["height"])) for image in data["images"]),
        has_annotations=bool(annotations),
        without_mask=sum(not a.get("segmentation") for a in annotations),
        problems=found,
        counts=dict(Counter(names[a["category_id"]] for a in used)),
        unused=tuple(place_of(a) for a in unused),
        bad_masks=tuple(map(place_of, bad)),
        spots={kind: spots_of(some, data["images"]) for kind, some in kinds.items()},
    )


def place_of(annotation: dict) -> Any:
    """What an annotation is called in messages: the place that it was read from, else its id."""
    source = annotation.get("source")
    return source if isinstance(source, str) and source else annotation["id"]


def problems(data: dict, annotations: list[dict], sizes: dict[Any, Any], names: dict[Any, str]) -> Iterator[Problem]:
    """Each kind of flaw that makes a file useless."""
    yield from repeated_entries(data)
    lost_images = sorted({str(a["image_id"]) for a in annotations if a["image_id"] not in sizes})
    repeated = twice(a["id"] for a in annotations)
    shared = set(repeated)
    unnamed = [a for a in annotations if a["category_id"] not in names]
    lost_categories = sorted({str(a["category_id"]) for a in unnamed})

    def flawed(id: str, text: str, some: list[dict], entries: list[Any] | None = None) -> Iterator[Problem]:
        entries = [a["id"] for a in some] if entries is None else entries
        return problem(id, text, entries, spots_of(some, data["images"]))

    yield from problem(
        "image-unknown", "annotations name image ids that are not in the list of images: {}", lost_images
    )
    yield from flawed(
        "category-unknown",
        "annotations name category ids that are not in the list of categories: {}",
        unnamed,
        lost_categories,
    )
    yield from flawed(
        "box-form",
        "bbox must be [x, y, width, height] in pixels, width and height from 0 up; not so in the annotations {}",
        [a for a in annotations if not is_box(a.get("bbox"))],
    )
    yield from flawed(
        "annotation-id",
        "annotations share ids; each needs its own",
        [a for a in annotations if a["id"] in shared],
        repeated,
    )
    yield from flawed(
        "crowd-form",
        "iscrowd must be 0 or 1; not so in the annotations {}",
        [a for a in annotations if a.get("iscrowd") not in (0, 1, None)],
    )
    yield from flawed(
        "area-absent",
        "annotations have no area in square pixels: {}; width x height of the box will do, and data_format=coco "
        "computes the areas",
        [a for a in annotations if not is_number(a.get("area"))],
    )


def problem(id: str, text: str, entries: list[Any], spots: tuple[Spot, ...] = ()) -> Iterator[Problem]:
    """A problem of some entries, or nothing if there are none. ``{}`` in the text stands for the first of them."""
    if entries:
        yield Problem(id, text.format(shorten(entries)), len(entries), spots)


def repeated_entries(data: dict) -> Iterator[Problem]:
    """Images or categories of one id, and categories of one name."""
    images = twice(image["id"] for image in data["images"])
    named = (image["file_name"] for image in data["images"] if image["id"] in images) if images else ()
    yield from problem("images-id", "several images have the id {}", images, tuple(map(Spot, islice(named, EXAMPLES))))
    categories = twice(category["id"] for category in data["categories"])
    yield from problem("categories-id", "several categories have the id {}", categories)
    names = twice(str(category["name"]) for category in data["categories"])
    yield from problem("category-name", "several categories have the name {}", names)


def twice(values: Iterable[Any]) -> list[Any]:
    return [value for value, count in Counter(values).items() if count > 1]


def is_used(annotation: dict, width: float, height: float) -> bool:
    """Whether mmdet's CocoDataset trains on an annotation, or takes it as a crowd."""
    x, y, w, h = annotation["bbox"]
    inside = min(x + w, width) > max(x, 0) and min(y + h, height) > max(y, 0)
    return inside and w >= 1 and h >= 1 and annotation["area"] > 0 and not annotation.get("ignore")

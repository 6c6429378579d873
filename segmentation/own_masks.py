"""The masks of a folder in any layout, or drawn from outlines of objects: their files, classes and legend."""

import csv
import io
from pathlib import Path
from typing import Any, NamedTuple

from mmseg.datasets import ADE20KDataset, CityscapesDataset, PascalVOCDataset

from backbones.errors import UserError, shorten, shown, unknown
from backbones.files import replaced_file
from segmentation.layouts import Pairs, layout_of, pairs_of
from segmentation.legend import checked_legend, class_names, read_legend
from segmentation.mask_values import Values, values_of
from segmentation.rendered import render
from ziggurat.engine.console import say_note
from ziggurat.engine.own_data import AUTO, FOLDER, READERS
from ziggurat.engine.own_data.cache import made_once, place_of
from ziggurat.engine.own_data.content import Notes
from ziggurat.engine.own_data.listing import Listing
from ziggurat.engine.own_data.options import of_config, split_options
from ziggurat.engine.own_data.split import split_pairs
from ziggurat.engine.reading import chosen_reading

LAYOUTS = ("masks", "ade20k", "cityscapes", "voc")
LEGENDS = (
    "legend.json",
    "legend.csv",
    "legend.txt",
    "labelmap.txt",
    "class_dict.csv",
    "_classes.csv",
    "label_colors.txt",
)
# Cityscapes' labels: those of the 19 classes in labelIds. Others are not scored.
CITY_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
BINARY = {"background": 0, "object": 255}


class Masks(NamedTuple):
    """A data set of masks.

    Attributes:
        root: the folder of the images.
        files: split -> CSV file of images and masks.
        names: the classes.
        reduce_zero_label: whether the value 0 is unlabelled.
        legend: which values or colours are which class; None: the values are indices.
    """

    root: Path
    files: dict[str, Path]
    names: list[str]
    reduce_zero_label: bool
    legend: dict[str, Any] | None


def legend_of(cfg: Any) -> dict[str, Any] | None:
    """The legend of a config: a dict, or a file, which may lie in ``data_root``. None without one."""
    given = cfg.get("legend")
    if isinstance(given, str):
        places = [Path(given), Path(cfg.get("data_root") or "") / given]
        file = next((place for place in places if place.is_file()), None)
        if file is None:
            raise UserError(f"legend={given!r} is no file; allowed: a file, also in data_root, or a dict of names")
        return read_legend(file)
    return None if given is None else checked_legend(given)


def check_names(cfg: Any, names: list[str]) -> None:
    """Raises UserError if ``cfg.classes`` are other names than those of a legend or a layout."""
    chosen = cfg.get("classes")
    if chosen is not None and chosen != len(names) and chosen != names:
        raise UserError(f"classes={shown(chosen)}, and the data have {shorten(names, 10)}; allowed: classes=None")


Known = tuple[list[str], bool, dict[str, Any] | None]  # classes, reduce_zero_label and legend of a model


def found_masks(cfg: Any, known: Known | None = None) -> Masks:
    """The masks that a config names. Those of outlines are drawn into the cache.

    Args:
        cfg: the config.
        known: how the masks of a model's training were read; None lets the data decide.
    """
    listing = Listing(cfg.get("data_root") or "", chosen_reading(cfg))
    name = cfg.data_format
    if name not in (AUTO, *LAYOUTS, *READERS):
        raise unknown("data_format", name, [AUTO, *LAYOUTS, *(one for one in READERS if one != "voc")])
    layout = layout_of(listing) if name == AUTO else name if name in LAYOUTS else None
    if layout is None:
        return drawn_masks(cfg, listing, known)
    pairs = pairs_of(listing, layout)
    if not pairs:
        raise UserError(
            f"{listing.root}: no mask with the name of an image, in the layout {layout}; allowed: folders such as "
            "images/train and masks/train, or names such as a.jpg and a_mask.png"
        )
    return listed_masks(cfg, listing, layout, pairs, known)


def listed_masks(cfg: Any, listing: Listing, layout: str, pairs: Pairs, known: Known | None) -> Masks:
    """The masks of a layout, with their classes."""
    place = place_of(listing, cfg.get("data_cache") or FOLDER)
    split = split_options(cfg)
    list_file = place / split.file_name() if split else None

    def make(index: Path) -> dict[str, Any]:
        parts = pairs
        if split:
            parts = split_pairs(
                pairs, split, list_file, listing.root, lambda mask: values_of([listing.path(mask)]).seen
            )
        every = [mask for part in parts.values() for _, mask in part]
        return dict(
            files={key: write_pairs(index, key, part) for key, part in parts.items()},
            values=values_of([listing.path(mask) for mask in every])._asdict() if layout == "masks" else None,
            notes=[],
        )

    made = made_once(listing, place, dict(layout=layout, split=split and tuple(split)), list_file, make)
    files = {key: (place / file).resolve() for key, file in made["files"].items()}
    if known is not None and layout == "masks":
        return Masks(listing.root, files, *known)
    return Masks(listing.root, files, *classes_and_legend(cfg, listing, layout, made["values"], pairs))


def write_pairs(index: Path, split: str, pairs: list[tuple[str, str]]) -> str:
    """Writes the pairs of a split beside an index, and returns the file's name."""
    name = f"{split}-{index.stem.removeprefix('index-')}.csv"
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(pairs)
    with replaced_file(index.with_name(name)) as beside:
        beside.write_text(text.getvalue(), encoding="utf-8")
    return name


def classes_and_legend(
    cfg: Any, listing: Listing, layout: str, values: dict[str, Any] | None, pairs: Pairs
) -> tuple[list[str], bool, dict[str, Any] | None]:
    """The classes of masks, whether 0 is unlabelled, and the legend.

    Raises:
        UserError: colours have no legend, or the values do not fit the names.
    """
    legend = legend_of(cfg)
    if legend is None and layout == "masks":
        file = next((name for name in LEGENDS if name in listing.files), None)
        legend = read_legend(listing.path(file)) if file else None
    if legend is not None:
        check_names(cfg, class_names(legend))
        return class_names(legend), False, legend
    if layout == "ade20k":
        return list(ADE20KDataset.METAINFO["classes"]), True, None
    if layout == "voc":
        return list(PascalVOCDataset.METAINFO["classes"]), False, None
    if layout == "cityscapes":
        names = list(CityscapesDataset.METAINFO["classes"])
        train_ids = next(iter(pairs.values()))[0][1].endswith("TrainIds.png")
        return names, False, None if train_ids else dict(zip(names, CITY_IDS)) | {"ignore": "rest"}
    return named_values(cfg, listing, Values(**values))


def named_values(cfg: Any, listing: Listing, values: Values) -> tuple[list[str], bool, dict[str, Any] | None]:
    """The classes of masks by their values, of which nobody says what they mean."""
    if values.colours:
        colours = ", ".join(str(colour) for colour in values.colours[:5])
        raise UserError(
            f"{listing.root}: masks have colours, such as {colours}; allowed: legend={{'name': [R, G, B], ...}}, or "
            f"a file {' or '.join(LEGENDS[:3])} there"
        )
    names = cfg.get("classes")
    numbers = sorted(set(values.seen) - {255})
    if set(values.seen) <= {0, 255} and len(values.seen) == 2 and names in (None, 2):
        say_note(f"{listing.root}: masks of 0 and 255 are read as background and object; legend={BINARY}")
        return list(BINARY), False, dict(BINARY)
    if set(values.seen) == {0, 255} and isinstance(names, list | tuple) and len(names) == 2:
        return list(map(str, names)), False, dict(zip(map(str, names), (0, 255)))
    if not numbers:
        raise UserError(f"{listing.root}: all masks are 255, which is unlabelled; allowed: values of classes from 0")
    if names is None:
        said = [f"class {i}" for i in range(numbers[-1] + 1)]
        say_note(
            f"{listing.root}: masks have the values {shorten(numbers, 10)}; classes={len(said)}, where 0 is the first"
        )
        return said, False, None
    count = names if isinstance(names, int) else len(names)
    reduced = numbers[-1] == count and cfg.get("reduce_zero_label") is not False
    if numbers[-1] > count - (not reduced):
        raise UserError(
            f"{listing.root}: masks have the values {shorten(numbers, 10)}, and classes={shown(names)}; allowed: names "
            f"for 0 to {numbers[-1]}, or for 1 to {numbers[-1]} if 0 is unlabelled"
        )
    return [], reduced, None


def drawn_masks(cfg: Any, listing: Listing, known: Known | None) -> Masks:
    """The masks of outlines in a COCO json or another format of objects, drawn into the cache."""
    if legend_of(cfg) is not None:
        raise UserError(f"legend is for masks, and {listing.root} has none; allowed: legend=None")
    own = of_config(cfg)
    place = place_of(listing, cfg.get("data_cache") or FOLDER)
    files = {key: str(file) for key, file in own.files.items()}

    def make(index: Path) -> dict[str, Any]:
        notes = Notes()
        tag = index.stem.removeprefix("index-")
        folder = place / f"masks-{tag}"
        made = {key: write_pairs(index, key, render(file, folder, key, notes)) for key, file in own.files.items()}
        return dict(files=made, notes=notes.as_list())

    made = made_once(listing, place, dict(drawn=files), None, make)
    found = {key: (place / file).resolve() for key, file in made["files"].items()}
    names = ["background", *own.classes]
    check_names(cfg, names)
    if known is None or known[0] == names:
        return Masks(listing.root, found, names, False, None)
    # The classes of the model keep their indices. A class that the data lack gets a value that no mask has.
    values = {name: names.index(name) if name in names else 256 + i for i, name in enumerate(known[0])}
    return Masks(listing.root, found, known[0], False, values | {"ignore": "rest"})

"""Images and classes in layouts beyond those of ``classification.data``: found out, split, or of annotated objects.

Each split becomes a table of paths and labels in the cache, which :class:`CsvImages` reads. An image of annotated
objects has the class of its largest object, by area. Crowds do not count, and images without an object are left out.
"""

import csv
import io
import json
import posixpath
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from backbones.errors import UserError, shorten
from backbones.files import replaced_file
from classification.data.checks import SCOPE
from classification.data.images import SplitImages
from classification.data.table import CsvImages
from ziggurat.engine.findings import UNUSABLE, Finding
from ziggurat.engine.formats import class_of
from ziggurat.engine.own_data import AUTO, FOLDER, READERS, file_for
from ziggurat.engine.own_data.boxes_csv import COLUMNS, delimiter_of, first_cells, group_in
from ziggurat.engine.own_data.cache import made_once, place_of
from ziggurat.engine.own_data.content import Notes
from ziggurat.engine.own_data.listing import ALL, WORDS, Listing, split_of
from ziggurat.engine.own_data.options import check_kind, of_config, split_options
from ziggurat.engine.own_data.reading import read_text
from ziggurat.engine.own_data.split import group_column, split_pairs
from ziggurat.engine.reading import chosen_reading
from ziggurat.engine.splits import SPLITS, datasets_of

TABLES = ("folders", "csv")  # the formats of ``classification.data`` from which a share may be taken for validation
IMAGE = (*COLUMNS["image"], "id")

Labels = dict[str, list[tuple[str, str]]]  # split -> image below the root, and class


class Tables(NamedTuple):
    """The tables of a data set: split -> CSV file of path and label, and the classes of the training."""

    root: Path
    files: dict[str, Path]
    classes: list[str]


def use_own_data(cfg: Any) -> list[str] | None:
    """Points the data sets of a config at tables of the data, in place, where ``cfg.data_format`` needs these.

    These are "auto", the formats of ``ziggurat.engine.own_data``, and the others with ``val_share``.

    Returns:
        The classes of the training; None for data that need no tables.

    Raises:
        UserError: the data are absent or malformed, or in no layout that is known.
    """
    name = cfg.get("data_format")
    if name is None:
        of_config(cfg)  # refuses options that need a data_format
        return None
    if name not in (AUTO, *READERS) and not (name in TABLES and cfg.get("val_share") is not None):
        return None
    found = tables_of(cfg)
    for split in SPLITS:
        for dataset in datasets_of(cfg, split):
            kind = class_of(dataset, SCOPE)
            is_right = kind is not None and issubclass(kind, SplitImages)
            check_kind(cfg, split, dataset, kind, is_right, "ImageFolder")
            dataset.type = CsvImages.__name__
            dataset.data_root = str(found.root.resolve())
            dataset.folder = str(file_for(found.files, split))
            if cfg.get("classes") is None and dataset.get("classes") is None:
                dataset.classes = found.classes
    return next((list(one.classes) for split in SPLITS for one in datasets_of(cfg, split) if one.get("classes")), None)


def tables_of(cfg: Any) -> Tables:
    """The tables that a config's data become. They are made once."""
    listing = Listing(cfg.get("data_root") or "", chosen_reading(cfg))
    name, place = cfg.data_format, place_of(listing, cfg.get("data_cache") or FOLDER)
    split = split_options(cfg)
    list_file = place / split.file_name() if split else None
    objects = name in READERS or (name == AUTO and any(reader.find(listing) for reader in READERS.values()))
    own = of_config(cfg) if objects else None  # has taken the share already
    key = dict(labels=name, split=split and tuple(split), objects=own and {k: str(f) for k, f in own.files.items()})

    def make(index: Path) -> dict[str, Any]:
        notes = Notes()
        if own is not None:
            labels, order = largest_objects(own.files, notes), list(own.classes)
        else:
            (labels, groups), order = labels_of(listing, name, split.group if split else ""), []
            if split:
                labels = split_pairs(labels, split, list_file, listing.root, lambda label: [label], groups)
        trained = labels.get("train") or labels.get(ALL) or next(iter(labels.values()))
        used = {label for _, label in trained}
        classes = [one for one in order if one in used] or sorted(used)
        for key, pairs in labels.items():
            for image, label in pairs if own is not None else ():
                if label not in used:
                    notes.add(f"images of {key} left out, since no training image has their class", image)
            labels[key] = [pair for pair in pairs if own is None or pair[1] in used]
        files = {key: write_table(index, key, pairs) for key, pairs in labels.items()}
        return dict(files=files, classes=classes, notes=notes.as_list())

    made = made_once(listing, place, key, list_file if own is None else None, make)
    files = {key: (place / file).resolve() for key, file in made["files"].items()}
    return Tables(listing.root, files, made["classes"])


def write_table(index: Path, split: str, pairs: list[tuple[str, str]]) -> str:
    """Writes the table of a split beside an index, and returns the file's name."""
    name = f"{split}-{index.stem.removeprefix('index-')}.csv"
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("path", "label"), *pairs])
    with replaced_file(index.with_name(name)) as beside:
        beside.write_text(text.getvalue(), encoding="utf-8")
    return name


def largest_objects(files: dict[str, Path], notes: Notes) -> Labels:
    """The class of the largest object in each image of COCO jsons in their one form."""
    labels: Labels = {}
    for split, file in files.items():
        content = json.loads(file.read_text())
        names = {one["id"]: one["name"] for one in content["categories"]}
        best: dict[int, dict[str, Any]] = {}
        for one in content["annotations"]:
            if not one["iscrowd"] and one["area"] > best.get(one["image_id"], {"area": 0})["area"]:
                best[one["image_id"]] = one
        labels[split] = []
        for image in content["images"]:
            if image["id"] in best:
                labels[split].append((image["file_name"], names[best[image["id"]]["category_id"]]))
            else:
                notes.add("images left out, which have no object", image["file_name"])
    return labels


def labels_of(listing: Listing, name: str, val_group: str = "") -> tuple[Labels, dict[str, str]]:
    """The images and classes of a folder, by a CSV file, else by folders; and the groups of images by their names.

    Raises:
        UserError: there are no classes, a line of a table has no image, or ``val_group`` is none of its columns.
    """
    labels, groups = labels_of_tables(listing, val_group) if name in ("csv", AUTO) else ({}, {})
    labels = labels or (labels_of_folders(listing) if name in ("folders", AUTO) else {})
    if not labels:
        raise UserError(
            f"{listing.root}: no classes of images; allowed: folders such as train/CLASS and val/CLASS, a CSV file "
            f"with the columns path and label, or annotations as {', '.join(READERS)}"
        )
    return labels, groups


def labels_of_folders(listing: Listing) -> Labels:
    """Folders of a class each, ``train/CLASS/x.jpg`` or ``CLASS/x.jpg``."""
    split_words = {word: split for split, words in WORDS.items() for word in words}
    labels: Labels = {}
    for image in listing.images:
        first, *rest = image.split("/")
        split = split_words.get(first.lower())
        if split is not None and len(rest) > 1:
            labels.setdefault(split, []).append((image, rest[0]))
        elif split is None and rest:
            labels.setdefault(ALL, []).append((image, first))
    if len(labels) > 1 and ALL in labels:
        others = sorted({label for _, label in labels[ALL]})
        raise UserError(f"{listing.root}: folders {shorten(others)} beside those of splits; allowed: all of one kind")
    return labels


def labels_of_tables(listing: Listing, val_group: str = "") -> tuple[Labels, dict[str, str]]:
    """CSV files with the columns of an image and its class, under usual names, and perhaps of a split and of a group.

    The groups are those of images that may be validated on, by their names; {} unless ``val_group`` is a column.
    """
    labels: Labels = {}
    groups: dict[str, str] = {}
    for name in listing.named(".csv"):
        text = read_text(listing.path(name))
        first = first_cells(text.split("\n", 1)[0])
        head = [cell.strip().lower() for cell in first]
        places = [next((head.index(one) for one in names if one in head), None) for names in (IMAGE, COLUMNS["class"])]
        if None in places:
            continue
        column = next((head.index(one) for one in COLUMNS["split"] if one in head), None)
        near, own = posixpath.dirname(name), split_of(name)
        grouped = group_column(val_group, first, str(listing.path(name))) if own in (None, "train") else None
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter_of(text.split("\n", 1)[0]))
        for cells in reader:
            if reader.line_num == 1 or not any(cell.strip() for cell in cells):
                continue
            where = f"{listing.path(name)}:{reader.line_num}"
            if len(cells) != len(head):
                raise UserError(f"{where}: {len(cells)} cells; allowed: {len(head)}, as in the first line")
            said, label = (cells[place].strip() for place in places)
            image = listing.image(said, near, own) or listing.image_of_stem(said, near, own)
            if image is None or not label:
                what = f"no image {said!r}" if image is None else "no class"
                raise UserError(f"{where}: {what}; allowed: an image in {listing.root}, and the name of its class")
            split = own or (split_of(cells[column]) if column is not None else None) or ALL
            labels.setdefault(split, []).append((image, label))
            if grouped is not None and split in (ALL, "train"):
                groups[image] = group_in(cells, grouped, first, where)
    repeated = [
        one for one, count in Counter(image for pairs in labels.values() for image, _ in pairs).items() if count > 1
    ]
    if repeated:
        raise UserError(
            f"{listing.root}: several lines of tables have the images {shorten(repeated)}; allowed: one line"
        )
    return labels, groups


def apart(cfg: Any, split: str) -> Iterator[Finding]:
    """Whether a training is validated on its own images, since the data have no others."""
    if cfg.get("data_format") is None or split != "train":
        return
    tables = [
        {dataset.get("folder") for dataset in datasets_of(cfg, name) if dataset.get("type") == CsvImages.__name__}
        for name in ("train", "val")
    ]
    if tables[0] & tables[1]:
        text = (
            f"{cfg.data_root}: all images are of one set; allowed: val_share=0.2 to take a share of them for "
            "validation, or folders or files named train and val"
        )
        yield Finding("validation-absent", UNUSABLE, text)

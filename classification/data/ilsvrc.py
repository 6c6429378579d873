"""ImageNet-1K as people have it: class folders for training, and a flat validation folder with a label file."""

import re
from pathlib import Path, PurePath
from typing import Any

from backbones.errors import UserError, shorten
from backbones.image_files import images_below
from classification.data.checks import LabelledFormat
from classification.data.folder import class_folders, has_folders, list_samples
from classification.data.images import SplitImages
from classification.data.samples import Samples, check_label, class_indices
from ziggurat.engine.formats import register_format

SPLITS = ("train", "val")
FOLDERS = ("{split}", "ILSVRC2012_img_{split}", "ILSVRC/Data/CLS-LOC/{split}", "Data/CLS-LOC/{split}")
DEVKITS = ("", "data", "ILSVRC2012_devkit_t12/data", "devkit/data", "ILSVRC/devkit/data")
TRUTHS = ("ILSVRC2012_validation_ground_truth.txt", "ILSVRC2015_clsloc_validation_ground_truth.txt")
LABEL_FILES = ("LOC_val_solution.csv", "val.txt", "meta/val.txt", "ILSVRC2012_val.txt")
WNID = re.compile(r"n\d{8}")


class IlsvrcImages(SplitImages):
    """ImageNet-1K, where the validation images lie in one folder.

    Training images lie in class folders. So may validation images. Else a label file gives their classes:

    - ``ILSVRC2012_validation_ground_truth.txt`` of the devkit: one id of the devkit a line, for the images sorted by
      name. ``meta.mat`` or ``map_clsloc.txt`` beside it gives each id its synset.
    - ``LOC_val_solution.csv`` of Kaggle: an image, and synsets with boxes. The first synset counts.
    - ``val.txt``: an image's name, and its synset or class index, on each line. Index 0 is the first class.

    The classes are the synsets of the training folder, else of the labels, sorted. Folders of the usual names are found
    in ``data_root``; ``folder`` is ``"train"``, ``"val"``, or the path of a folder of images.

    Args:
        labels: the label file, in ``data_root``. By default a file of the names above.
        **arguments: those of :class:`SplitImages`.

    Raises:
        UserError: a folder or file is absent or malformed, or the labels and images are not those of one another.
    """

    def __init__(self, *args: Any, labels: str | None = None, **arguments: Any):
        self.labels = labels
        super().__init__(*args, **arguments)

    def find(self, classes: list[str] | None, skip_others: bool) -> tuple[list[str], Samples]:
        root = Path(self.data_root)
        images = image_folder(root, self.folder)
        if self.folder == "train" or (self.labels is None and has_folders(images)):
            classes = classes or class_folders(images)
            return classes, list_samples(images, classes, skip_others, self.reading)
        known = known_classes(root) or []
        return flat_samples(images, label_file(root, self.labels), classes or known, known, skip_others)


def image_folder(root: Path, folder: str) -> Path:
    """The folder of a split's images, by one of its usual names."""
    names = [name.format(split=folder) for name in (FOLDERS if folder in SPLITS else FOLDERS[:1])]
    found = next((root / name for name in names if (root / name).is_dir()), None)
    if found is None:
        raise UserError(f"no images of {folder} in {root}; allowed: a folder {', '.join(names)}")
    return found


def known_classes(root: Path) -> list[str] | None:
    """The class folders of training, or the synsets of the devkit; None without both."""
    for name in FOLDERS:
        if has_folders(root / name.format(split="train")):
            return class_folders(root / name.format(split="train"))
    ids = next((read_ids(root / place) for place in DEVKITS if has_ids(root / place)), None)
    return sorted(ids.values()) if ids else None


def label_file(root: Path, given: str | None) -> Path:
    """The file with the labels of the validation images."""
    names = [given] if given else [*LABEL_FILES, *(str(Path(place) / name) for place in DEVKITS for name in TRUTHS)]
    found = next((root / name for name in names if (root / name).is_file()), None)
    if found is None:
        wanted = given or f"{TRUTHS[0]}, {', '.join(LABEL_FILES[:2])}, or labels=FILE"
        raise UserError(f"no labels of the validation images in {root}; allowed: {wanted}")
    return found


def flat_samples(
    images: Path, file: Path, classes: list[str], known: list[str], skip_others: bool = False
) -> tuple[list[str], Samples]:
    """The classes, and (path, class index) of every image of a flat folder.

    Args:
        images: the folder.
        file: the label file.
        classes: the synsets, in the order of their indices. Without any the file's own synsets count, sorted.
        known: all synsets of the data, sorted, to which class indices in the file refer. Without any, ``classes``.
        skip_others: leave out images of other classes.
    """
    paths = [path for path in images_below(images) if path.parent == images]
    if not paths:
        raise UserError(f"no images in {images}")
    named = named_labels(file, known or classes) if file.name not in TRUTHS else devkit_labels(file, paths)
    by_stem = {path.stem: path for path in paths}
    absent = [stem for stem in named if stem not in by_stem]
    unlabelled = [path.name for stem, path in by_stem.items() if stem not in named]
    if absent or unlabelled:
        what = f"images without a label: {shorten(unlabelled)}" if unlabelled else f"no images of: {shorten(absent)}"
        raise UserError(f"{file} has {len(named)} labels, and {images} {len(paths)} images; {what}")
    classes = classes or sorted(set(named.values()))
    labels = class_indices(list(named.values()), classes, str(file), skip_others)
    return classes, Samples((str(by_stem[stem]), int(label)) for stem, label in zip(named, labels) if label >= 0)


def named_labels(file: Path, classes: list[str]) -> dict[str, str]:
    """Image name without suffix -> synset, of a file whose lines name an image and its label.

    Raises:
        UserError: a line is not of this form, or has a class index outside the classes.
    """
    named = {}
    for number, line in enumerate(read_lines(file), 1):
        cells = line.replace(",", " ").split()
        if not cells or (number == 1 and cells[0] == "ImageId"):  # Kaggle's header
            continue
        if len(cells) < 2:
            raise UserError(f"{file}, line {number}: {line!r}; allowed: an image's name and its label")
        label = cells[1]
        if label.isdecimal():
            if not classes:
                raise UserError(f"{file} has class indices, and their synsets are not known; set classes=[...]")
            check_label(int(label), len(classes), f"{file}, line {number}")
            label = classes[int(label)]
        named[PurePath(cells[0]).stem] = label
    return named


def devkit_labels(file: Path, paths: list[Path]) -> dict[str, str]:
    """Image name without suffix -> synset, of a file with the devkit's id of each image in the order of their names.

    Raises:
        UserError: there are other ids or more or fewer lines than images, or the synsets of the ids are unknown.
    """
    places = [file.parent / place for place in DEVKITS]
    ids = next((read_ids(place) for place in places if has_ids(place)), None)
    if ids is None:
        raise UserError(f"{file} has ids of the devkit; put meta.mat or map_clsloc.txt of its data folder beside it")
    lines = [line.strip() for line in read_lines(file) if line.strip()]
    if len(lines) != len(paths):
        raise UserError(f"{file} has {len(lines)} labels, and {paths[0].parent} {len(paths)} images")
    for number, line in enumerate(lines, 1):
        if not line.isdecimal() or int(line) not in ids:
            raise UserError(f"{file}, line {number}: label {line!r}; allowed: the devkit's ids 1 to {max(ids)}")
    return {path.stem: ids[int(line)] for path, line in zip(paths, lines)}


def has_ids(place: Path) -> bool:
    return (place / "map_clsloc.txt").is_file() or (place / "meta.mat").is_file()


def read_ids(place: Path) -> dict[int, str]:
    """The devkit's id -> synset, of the classes without subclasses.

    Raises:
        UserError: the file is malformed, or SciPy, which reads meta.mat, is not installed.
    """
    text, table = place / "map_clsloc.txt", place / "meta.mat"
    if text.is_file():  # lines such as "n02119789 1 kit_fox"
        cells = [line.split() for line in read_lines(text) if line.strip()]
        if not all(len(row) >= 2 and WNID.fullmatch(row[0]) and row[1].isdecimal() for row in cells):
            raise UserError(f"{text}: allowed: lines of synset, id and name")
        return {int(row[1]): row[0] for row in cells}
    try:
        from scipy.io import loadmat
    except ImportError:
        raise UserError(f"{table} needs SciPy: pip install scipy; or put map_clsloc.txt beside it") from None
    try:
        rows = loadmat(str(table), squeeze_me=True)["synsets"]
        return {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows if int(row["num_children"]) == 0}
    except Exception as error:  # broken bytes raise errors of many kinds
        raise UserError(f"{table} is no meta.mat of the devkit: {error or type(error).__name__}") from None


def read_lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None


@register_format(IlsvrcImages)
class IlsvrcFormat(LabelledFormat):
    """ImageNet-1K with a flat validation folder."""

    def classes(self, dataset: Any) -> tuple[str, ...] | None:
        root = Path(dataset.get("data_root") or "")
        found = known_classes(root) if root.is_dir() else None
        return tuple(found) if found else None

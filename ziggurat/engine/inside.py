"""Names in annotation files may not lead out of the data's folders. Folders that a user links may lie anywhere."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from backbones.errors import UserError
from ziggurat.engine.splits import under_root

LISTS = ".txt"  # annotation files of mm's data sets with the name of an image on each line


def check_inside(
    where: str | Path, entry: str, names: Iterable[Any], folder: str | Path, root: str | Path | None = None
) -> None:
    """Raises UserError for a name that leads out of a data set, such as ``../../etc/passwd``. No file is looked at.

    Args:
        where: the annotation file.
        entry: what the names are in that file, e.g. ``"file_name"``.
        names: paths in ``folder``, or absolute ones.
        folder: where the names are looked up.
        root: a further folder that names may lie in: the data set's root.
    """
    allowed = [Path(base) for base in (folder, root) if base is not None]
    bases = {found(base) + os.sep for base in allowed for found in (os.path.abspath, os.path.realpath)}
    for name in names:
        text = os.fspath(name) if isinstance(name, str | os.PathLike) else ""
        if ".." not in text and not os.path.isabs(text):
            continue
        if not os.path.abspath(os.path.join(folder, text)).startswith(tuple(bases)):
            raise UserError(f"{where}: {entry} is {text!r}; allowed: paths inside {allowed[-1]}")


def check_list(dataset: Any) -> None:
    """Raises UserError if the list of images of one of mm's data sets names an image outside its folders.

    Args:
        dataset: its config. Without an ``ann_file`` that ends in .txt, nothing is checked.
    """
    given = dataset.get("ann_file")
    if not isinstance(given, str) or not given.endswith(LISTS):
        return
    file = under_root(dataset, given)
    try:
        names = [line.strip() for line in file.read_text(errors="surrogateescape").splitlines()]
    except OSError:  # the data set says what is wrong
        return
    folders = [path for path in (dataset.get("data_prefix") or {}).values() if isinstance(path, str)]
    for folder in folders or [""]:
        check_inside(file, "a line", names, under_root(dataset, folder), under_root(dataset, ""))

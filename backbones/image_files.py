"""Finding image files in folders, and names for what is made of them."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from backbones.errors import UserError, shorten
from backbones.images import ARRAY_SUFFIXES, SUFFIXES
from backbones.reading import READING, Reading

LONGEST_STEM = 220  # bytes; file systems allow 255 for a name


def suffixes_of(reading: Reading) -> tuple[str, ...]:
    """The suffixes of image files. A folder's NumPy files are images for networks that take no pictures."""
    return SUFFIXES if reading.is_picture else (*SUFFIXES, *ARRAY_SUFFIXES)


def list_images(paths: list[str | Path], reading: Reading = READING) -> list[Path]:
    """The given files, and the images below the given folders, sorted; UserError for a folder without images."""
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = images_below(path, reading)
            if not inside:
                raise UserError(f"no images in {path}; readable: {', '.join(suffixes_of(reading))}")
            found += inside
        else:
            found.append(path)
    return found


def without_arrays(found: list[Path], given: list[str | Path]) -> list[Path]:
    """The files without NumPy files of folders, for networks of pictures. A file that was given by name stays.

    Args:
        found: the result of :func:`list_images` for a rule of other channels.
        given: what was listed.

    Raises:
        UserError: none is left.
    """
    named = set(map(Path, given))
    kept = [path for path in found if path in named or path.suffix.lower() not in ARRAY_SUFFIXES]
    if not kept:
        raise UserError(f"no images in {shorten(given)}; readable: {', '.join(SUFFIXES)}")
    return kept


def images_below(folder: str | Path, reading: Reading = READING) -> list[Path]:
    """The images below a folder, as by :func:`files_below`."""
    return files_below(folder, suffixes_of(reading))


def files_below(folder: str | Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files below a folder with one of the suffixes, in any case, sorted. Links to folders are followed.

    Hidden files and folders are left out, and the folders that storage devices and archives add.

    Raises:
        UserError: a folder may not be read.
    """
    found: list[str] = []
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(parent)
        if real in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not is_hidden(name)]
        wanted = (name for name in files if not is_hidden(name) and name.lower().endswith(suffixes))
        found += [os.path.join(parent, name) for name in wanted]
    return [Path(name) for name in sorted(found, key=lambda name: name.split(os.sep))]


def refuse(error: OSError) -> None:
    raise UserError(f"folder {error.filename} cannot be read ({error.strerror})")


def is_hidden(name: str) -> bool:
    """Whether a file or folder is no data of the user, by its name."""
    return name.startswith(".") or name in ("@eaDir", "__MACOSX")


def cut(name: str) -> str:
    """The beginning of a name, of at most ``LONGEST_STEM`` bytes."""
    while len(os.fsencode(name)) > LONGEST_STEM:
        name = name[:-1]
    return name


def output_stems(paths: Sequence[Path], used: Iterable[str] = ()) -> list[str]:
    """A different file name without suffix for each input.

    Inputs that share a name get their folder in front, e.g. ``a_street`` and ``b_street``, then a number behind. A long
    name is cut, so that a suffix and the marks of a temporary file have room.

    Args:
        paths: the inputs.
        used: names that are given to none of them.
    """
    counts = Counter(path.stem for path in paths)
    seen, numbers, found = set(used), {}, []
    for path in paths:
        stem = f"{path.parent.name}_{path.stem}" if counts[path.stem] > 1 and path.parent.name else path.stem
        name = stem = cut(stem)
        number = numbers.get(stem, 2)
        while name in seen:
            name, number = f"{stem}_{number}", number + 1
        numbers[stem] = number
        seen.add(name)
        found.append(name)
    return found

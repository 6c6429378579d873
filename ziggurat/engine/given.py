"""What tools are told to read: files, folders, patterns, and lists of these in text files."""

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from backbones.errors import UserError, shorten
from ziggurat.engine.addresses import ADDRESS

LIST_SUFFIX = ".txt"
STDIN = "-"
WHAT = "files, folders, patterns such as 'photos/**/*.jpg', lists in .txt files, and - for a list on standard input"


def expanded(given: Sequence[str | Path]) -> list[str]:
    """The files, folders and addresses that the given words stand for, in their order, each once.

    A pattern stands for the files and folders that it matches, sorted; ``**`` is any number of folders. A file of the
    suffix ``.txt`` is a list of files, folders, patterns and addresses, one in each line. Paths in a list count from
    the list's folder, or from the working folder where only this has them. ``-`` reads a list from standard input.

    Raises:
        UserError: a list cannot be read or has no lines, or a pattern matches nothing.
    """
    found = [path for word in given for path in one_expanded(str(word))]
    return list(dict.fromkeys(found))


def refuse_absent(paths: Sequence[str | Path]) -> None:
    """Raises UserError if there are paths and nothing is at any of them. A tool names and skips single absent ones."""
    if paths and not any(map(os.path.exists, paths)):
        raise UserError(f"no such file or folder: {shorten(paths)}; allowed: {WHAT}")


def one_expanded(word: str) -> Iterator[str]:
    if word == STDIN:
        if hasattr(sys.stdin, "reconfigure"):
            sys.stdin.reconfigure(errors="surrogateescape")  # a path may be no text
        yield from listed(sys.stdin, "standard input", Path())
    elif ADDRESS.match(word):
        yield word
    elif word.lower().endswith(LIST_SUFFIX) and not os.path.isdir(word):
        yield from read_list(Path(word))
    else:
        yield from matched(word)


def read_list(path: Path) -> list[str]:
    """What the lines of a list stand for; errors as for :func:`expanded`."""
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
            return list(listed(file, str(path), path.parent))
    except OSError as error:
        raise UserError(f"list {path}: {error.strerror}; allowed: a text file with a path in each line") from None


def listed(lines: TextIO, name: str, folder: Path) -> Iterator[str]:
    """What the lines stand for. ``name`` is the list's in messages, and paths count from ``folder`` first."""
    words = [word for word in (line.strip() for line in lines) if word]
    if not words:
        raise UserError(f"list {name} is empty; allowed: a path in each line")
    for number, word in enumerate(words, 1):
        if "\0" in word:
            raise UserError(f"list {name} is no text (line {number}); allowed: a path in each line")
        beside = str(folder / word)
        if ADDRESS.match(word):
            yield word
        elif os.path.lexists(beside) or (not os.path.lexists(word) and folder != Path()):
            yield from matched(beside)
        else:
            yield from matched(word)


def matched(word: str) -> list[str]:
    """The path itself where there is one or the word is no pattern, else what the pattern matches."""
    if os.path.lexists(word) or not glob.has_magic(word):
        return [word]
    found = sorted(glob.glob(word, recursive=True))
    if not found:
        raise UserError(f"{word} matches no file; allowed: {WHAT}")
    return found

"""Findings: what a look at the files of a data set finds, for a table, for JSON, and as the error of a training."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from backbones.errors import UserError, printable
from ziggurat.engine.console import say_note

UNUSABLE, WARNING, NOTE = "unusable", "warning", "note"
SEVERITIES = (UNUSABLE, WARNING, NOTE)  # the worst first
EXAMPLES, SHOWN = 5, 3  # entries that a finding keeps, and that its message names

# Kinds of findings that have no picture, and why. All others have views or places. A task adds its own kinds.
UNSEEN = {
    "annotation-file": "the annotation file cannot be read",
    "annotation-form": "the entries cannot be read",
    "annotations-absent": "there are no annotations",
    "data": "the data cannot be read",
    "data-folder": "the folder is not there",
    "file-hidden": "the files are no images",
    "format": "it is about the files as a whole",
    "image-absent": "the images are not there",
    "image-folder": "the folder is not there",
    "image-outside": "the images are outside the data",
    "image-unreadable": "the images cannot be read",
    "reading": "it is about annotations as they are written",
    "validation-absent": "it is about which images are of which split",
    "validation-is-test": "it is about which images are of which split",
}


class Place(NamedTuple):
    """Where a finding is to be seen.

    Attributes:
        image: the image's path.
        box: [x, y, width, height] in pixels of the image; None for the whole image.
        outlines: polygons x, y, x, y, ... in pixels of the image.
    """

    image: Path
    box: tuple[float, float, float, float] | None = None
    outlines: tuple[Sequence[float], ...] = ()


class Finding(NamedTuple):
    """One kind of thing that is odd in a data set.

    Attributes:
        id: a name for the kind, such as ``"box-outside"``.
        severity: ``"unusable"``, ``"warning"`` or ``"note"``. A training refuses data that are unusable.
        message: one line that names the file, the value and what is allowed.
        cure: what to do about it, if the message does not say so.
        count: how many entries or files there are of this kind.
        examples: the first few of them.
        places: where some of them are to be seen.
        split: ``"train"``, ``"val"`` or ``"test"``; "" for what concerns several.
        views: a row of :class:`ziggurat.engine.panels.Shown` for each picture. Without views, the pictures are the
            images of ``places``.
    """

    id: str
    severity: str
    message: str
    cure: str = ""
    count: int = 1
    examples: tuple[str, ...] = ()
    places: tuple[Place, ...] = ()
    split: str = ""
    views: tuple[Sequence[Any], ...] = ()


def found_in(
    id: str,
    severity: str,
    text: str,
    examples: Sequence[Any],
    cure: str = "",
    places: Iterable[Place] = (),
    count: int | None = None,
    split: str = "",
    views: Iterable[Sequence[Any]] = (),
) -> Iterator[Finding]:
    """A finding of several entries, or nothing if there are none.

    Args:
        id, severity, cure, places, split, views: as for :class:`Finding`.
        text: the message, but for the first examples. ``{count}`` stands for their number.
        examples: all entries, or the first of them.
        count: how many entries there are; None for as many as ``examples``.
    """
    count = len(examples) if count is None else count
    if count:
        few = tuple(map(str, examples[:EXAMPLES]))
        rest = "" if count <= SHOWN else f", ... ({count:,} in all)"
        message = f"{text.format(count=f'{count:,}')}: {', '.join(few[:SHOWN])}{rest}"
        first = tuple(islice(places, EXAMPLES)), split, tuple(islice(views, EXAMPLES))
        yield Finding(id, severity, message, cure, count, few, *first)


def caught(id: str, check: Callable[..., Any], *args: Any) -> Iterator[Finding]:
    """The UserError of a check as a finding that makes the data unusable; nothing if the check passes."""
    try:
        check(*args)
    except UserError as error:
        yield Finding(id, UNUSABLE, str(error))


def follow(findings: Iterable[Finding]) -> None:
    """Raises UserError for the first finding that makes data unusable. Warnings before it become notes."""
    for finding in findings:
        if finding.severity == UNUSABLE:
            raise UserError(finding.message)
        if finding.severity == WARNING:
            say_note(finding.message)


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """The worst first, else in the order in which they were found."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def table(findings: Sequence[Finding]) -> str:
    """A line for each finding, of which there is one or more, with its message and cure on lines below."""
    rows = [(one.severity, one.id, one.split or "all", f"{one.count:,}") for one in findings]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = []
    for row, one in zip(rows, findings, strict=True):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, row[3]]))
        lines.append(f"    {printable(one.message)}")
        if one.cure:
            lines.append(f"    cure: {one.cure}")
    return "\n".join(lines)


def counted(findings: Iterable[Finding]) -> str:
    """How many findings there are of each severity, in words."""
    severities = [finding.severity for finding in findings]
    numbers = {kind: severities.count(kind) for kind in SEVERITIES if kind in severities}
    parts = [f"{number} {kind}{'s' if number > 1 and kind != UNUSABLE else ''}" for kind, number in numbers.items()]
    return ", ".join(parts) or "nothing is wrong"


def status(findings: Iterable[Finding], strict: bool = False) -> int:
    """The exit status: 0 for clean data, 1 for warnings, 2 for unusable data. ``strict`` makes warnings 2."""
    severities = {finding.severity for finding in findings}
    if UNUSABLE in severities or (strict and WARNING in severities):
        return 2
    return int(WARNING in severities)


def described(finding: Finding) -> dict[str, Any]:
    """A finding as a dict of JSON's types."""
    places = [{"image": str(place.image), "box": place.box and list(place.box)} for place in finding.places]
    kept = {key: value for key, value in finding._asdict().items() if key != "views"}
    return {**kept, "examples": list(finding.examples), "places": places}

"""Pictures of findings. Each finding says by its ``views``, else by its ``places``, what is to be seen of it."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from backbones.errors import UserError, printable
from backbones.reading import READING, Reading
from ziggurat.engine.findings import UNSEEN, Finding, Place
from ziggurat.engine.panels import Panel, Shown, page_of
from ziggurat.engine.shown import Photo

MOST, MOST_IN_ROW = 1400, 800  # pixels of an image's longer side: alone, and beside others

COMPRESSION = 2  # of PNG: 6 is a quarter smaller, and takes twice as long


class Drawn(NamedTuple):
    """The outcome of drawing findings.

    Attributes:
        pictures: their number.
        without: a line for each kind of finding that has no picture, which says why.
    """

    pictures: int
    without: list[str]


def draw_findings(findings: Sequence[Finding], out: Path, reading: Reading = READING) -> Drawn:
    """Writes ``<finding>_<split>_<number>.png`` for each finding that there is something to show of.

    Args:
        findings: of a check.
        out: the folder, which exists.
        reading: the rule by which images are read.
    """
    numbers: Counter[str] = Counter()
    without: dict[str, str] = {}
    for finding in findings:
        name, before = f"{finding.id}_{finding.split or 'all'}", numbers.total()
        for row in rows_of(finding):
            panels = [panel for one in row if (panel := panel_of(one, reading, len(row))) is not None]
            if panels:
                numbers[name] += 1
                picture_of(finding, panels).save(out / f"{name}_{numbers[name]}.png", compress_level=COMPRESSION)
        if numbers.total() == before:
            without[finding.id] = UNSEEN.get(finding.id, "its files cannot be read")
    return Drawn(numbers.total(), [f"{id}: {reason}" for id, reason in without.items()])


def rows_of(finding: Finding) -> list[Sequence[Shown]]:
    """What each picture of a finding shows, from left to right."""
    return [*finding.views] or [(photo,) for photo in photos(finding.places)]


def photos(places: Sequence[Place]) -> list[Photo]:
    """The images of places, each with all its boxes and outlines."""
    by_image: dict[Path, list[Place]] = defaultdict(list)
    for place in places:
        by_image[place.image].append(place)
    return [
        Photo(path, [one.box for one in own if one.box], [points for one in own for points in one.outlines])
        for path, own in by_image.items()
    ]


def panel_of(shown: Shown, reading: Reading, beside: int) -> Panel | None:
    """None for what cannot be read."""
    try:
        return shown.panel(reading, MOST if beside == 1 else MOST_IN_ROW)
    except UserError:
        return None


def picture_of(finding: Finding, panels: Sequence[Panel]) -> Image.Image:
    """The panels under the finding's name and message."""
    where = f" ({finding.split})" if finding.split else ""
    return page_of(panels, f"{finding.id}: {finding.severity}{where}", printable(finding.message))

"""What projects of images and of videos share in Label Studio: addresses of files, boxes, and the labelling interface.

Files of this machine have addresses as Label Studio serves local files: start it with
``LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true`` and ``LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=/``.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from backbones.files import replaced_file
from ziggurat.engine.predicted.book import Row, is_file, xml_text

SERVED = "/data/local-files/?d="


def address(row: Row) -> str:
    """The address of an image, or of a frame's video."""
    if not is_file(row):
        return row["image"]
    return SERVED + quote(os.fsencode(os.path.abspath(row["image"]).lstrip("/")))


def in_percent(row: Row, box: Sequence[float]) -> dict[str, float]:
    """A box x1, y1, x2, y2 in the pixels of an image or frame, as Label Studio has boxes."""
    (x1, y1, x2, y2), across, down = box, 100 / row["width"], 100 / row["height"]
    return dict(x=x1 * across, y=y1 * down, width=(x2 - x1) * across, height=(y2 - y1) * down, rotation=0)


def write_interface(path: Path, data: str, shown: str, labels: str, classes: Sequence[str]) -> None:
    """Writes a labelling interface.

    Args:
        path: the XML file.
        data: the name of what is labelled, "image" or "video".
        shown: the elements that show it, in lines.
        labels: the tag of the tool that has the classes.
        classes: their names.
    """
    value = "Choice" if labels == "Choices" else "Label"
    names = "".join(f"    <{value} value={quoteattr(xml_text(name))}/>\n" for name in classes)
    control = f'  <{labels} name="label" toName="{data}">\n{names}  </{labels}>\n'
    with replaced_file(path) as beside:
        beside.write_text(f"<View>\n{shown}{control}</View>\n", encoding="utf-8", errors="backslashreplace")

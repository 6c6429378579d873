"""Pictures of findings: the images in which each is to be seen, with its boxes."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from backbones.errors import UserError
from backbones.images import read_image
from backbones.reading import READING, Reading
from ziggurat.engine.draw import enlarged
from ziggurat.engine.findings import Finding

RED = (255, 40, 40)
MARGIN = 0.1  # of the picture's longer side, so that boxes beyond the image are to be seen


def draw_findings(findings: Sequence[Finding], out: Path, reading: Reading = READING) -> int:
    """Writes ``<finding>_<split>_<number>.png`` for the images of each finding.

    Images are read by the rule ``reading``. Those that cannot be read are left out.

    Returns:
        The number of pictures.
    """
    drawn = 0
    for finding in findings:
        boxes: dict[Path, list[tuple[float, ...]]] = defaultdict(list)
        for place in finding.places:
            boxes[place.image] += [place.box] if place.box else []
        for number, (path, own) in enumerate(boxes.items(), 1):
            try:
                picture = with_boxes(read_image(path, reading=reading), own)
            except UserError:
                continue
            picture.save(out / f"{finding.id}_{finding.split or 'all'}_{number}.png")
            drawn += 1
    return drawn


def with_boxes(image: Image.Image, boxes: Sequence[tuple[float, ...]]) -> Image.Image:
    """The image on a grey border, with the boxes [x, y, width, height] in red."""
    canvas, scale = enlarged(image)
    border = round(MARGIN * max(canvas.size))
    picture = Image.new("RGB", (canvas.width + 2 * border, canvas.height + 2 * border), (128, 128, 128))
    picture.paste(canvas, (border, border))
    draw = ImageDraw.Draw(picture)
    for x, y, width, height in boxes:
        corners = (x, y, x + width, y + height)
        limits = (picture.width, picture.height) * 2
        inside = [min(max(value * scale + border, 0), limit - 1) for value, limit in zip(corners, limits, strict=True)]
        draw.rectangle(inside, outline=RED, width=2)
    return picture

"""Drawing of predictions and ground truth on images. Small images are enlarged so that their labels can be read."""

import colorsys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from ziggurat.engine.lettering import length, shortened, write

Colour = tuple[int, int, int]
MIN_WIDTH = 480  # narrower images are enlarged to at least this number of pixels before text is drawn
BAND = 512  # rows that are tinted at a time
MOST_SIDE = 1280  # pixels; larger photographs are reduced for a page
PANEL = (24, 26, 31)
INK = (236, 238, 242)


def draw_instances(
    image: Image.Image,
    boxes: np.ndarray,
    names: Sequence[str],
    colours: Sequence[Colour],
    scores: Sequence[float] | None = None,
    masks: np.ndarray | None = None,
) -> Image.Image:
    """Boxes with their names, and masks where given.

    Args:
        image: RGB.
        boxes: (N, 4), x1, y1, x2, y2 in pixels of ``image``.
        names: N words to write at the boxes.
        colours: N RGB colours, 0..255.
        scores: N values in 0..1, written behind the names. The best one is drawn on top.
        masks: (N, H, W) bool in the frame of ``image``. If they have a method ``part``, it gives a mask's part of the
            image, and the row and column of the upper left pixel.

    Returns:
        RGB. A small image is enlarged by a whole number.
    """
    canvas, scale = enlarged(image)
    order = np.arange(len(boxes)) if scores is None else np.argsort(np.asarray(scores))
    if masks is not None and len(boxes):
        canvas = tinted(canvas, (region_of(masks, i, colours[i]) for i in order), 0.5, scale)
    draw = ImageDraw.Draw(canvas)
    stroke = max(2, round(min(canvas.size) / 300))
    size = label_size(canvas)
    for i in order:
        box = np.asarray(boxes[i], float) * scale
        draw.rectangle([*np.minimum(box[:2], box[2:]), *np.maximum(box[:2], box[2:])], outline=colours[i], width=stroke)
    for i in order:
        text = names[i] if scores is None else f"{names[i]}  {scores[i]:.0%}"
        write_label(draw, text, np.asarray(boxes[i], float) * scale, colours[i], size)
    return canvas


def draw_classes(
    image: Image.Image, mask: np.ndarray, classes: Sequence[str], palette: Sequence[Colour], opacity: float = 0.6
) -> Image.Image:
    """Each pixel tinted with the colour of its class, and a legend of the classes present, largest first.

    Args:
        image: RGB, H x W.
        mask: (H, W) class indices. Pixels without a class, e.g. 255 for unlabelled, stay untinted.
        classes: the class names.
        palette: an RGB colour, 0..255, for each class.
        opacity: of the tint, in 0..1.

    Returns:
        RGB with the legend below. A small image is enlarged by a whole number.
    """
    canvas, scale = enlarged(image)
    counts = np.bincount(mask.ravel(), minlength=len(classes))[: len(classes)]
    present = [i for i in np.argsort(-counts, kind="stable") if counts[i]]
    canvas = tinted(canvas, ((mask == i, palette[i]) for i in present), opacity, scale)
    lines = [(f"{classes[i]}  {percent(counts[i] / mask.size)}", tuple(palette[i])) for i in present]
    return with_legend(canvas, lines)


def draw_segments(
    image: Image.Image, segments: np.ndarray, classes: Sequence[tuple[int, str, Colour]], opacity: float = 0.6
) -> Image.Image:
    """Each segment tinted with the colour of its class and outlined, and a legend of the classes, largest first.

    Args:
        image: RGB, H x W.
        segments: (H, W), the number of each pixel's segment. A number that ``classes`` lacks stays untinted.
        classes: the number, class name and colour of each segment.
        opacity: of the tint, in 0..1.

    Returns:
        RGB with the legend below. A small image is enlarged by a whole number.
    """
    canvas, scale = enlarged(image)
    canvas = tint_segments(canvas, segments.repeat(scale, 0).repeat(scale, 1), classes, opacity)
    counts = np.bincount(segments.ravel(), minlength=max((number for number, *_ in classes), default=0) + 1)
    areas: dict[tuple[str, Colour], list[int]] = {}
    for number, name, colour in classes:
        areas.setdefault((name, colour), []).append(int(counts[number]))
    lines = []
    for (name, colour), found in sorted(areas.items(), key=lambda one: -sum(one[1])):
        count = f" x {len(found)}" if len(found) > 1 else ""
        lines.append((f"{name}{count}  {percent(sum(found) / segments.size)}", colour))
    return with_legend(canvas, lines)


def tint_segments(
    image: Image.Image, segments: np.ndarray, classes: Sequence[tuple[int, str, Colour]], opacity: float
) -> Image.Image:
    """The image with each segment tinted and outlined. The arguments are those of :func:`draw_segments`."""
    tints = ((segments == number, colour) for number, _, colour in classes)
    pixels = np.asarray(tinted(image, tints, opacity)).copy()
    pixels[:, 1:][segments[:, 1:] != segments[:, :-1]] = INK
    pixels[1:][segments[1:] != segments[:-1]] = INK
    return Image.fromarray(pixels)


def draw_scores(image: Image.Image, names: Sequence[str], scores: Sequence[float]) -> Image.Image:
    """Names with bars for their scores (0..1) in a panel below the image."""
    canvas, _ = enlarged(image)
    size = label_size(canvas)
    row = round(size * 1.6)
    page = Image.new("RGB", (canvas.width, canvas.height + row * len(names) + row // 2), PANEL)
    page.paste(canvas)
    draw = ImageDraw.Draw(page)
    bar_left, bar_right = round(page.width * 0.5), page.width - round(size * 3.6)
    colours = make_palette(len(names))
    for k, (name, score) in enumerate(zip(names, scores, strict=True)):
        top = canvas.height + row // 4 + k * row
        middle = top + row // 2
        text = shortened(draw, str(name), size, bar_left - size)
        write(draw, (size // 2, middle), text, size, INK)
        right = bar_left + max(2, round((bar_right - bar_left) * float(score)))
        draw.rectangle([bar_left, top + row // 5, right, top + row - row // 5], fill=colours[k])
        write(draw, (page.width - size // 2, middle), percent(float(score)), size, INK, "rm")
    return page


def side_by_side(images: Sequence[Image.Image], titles: Sequence[str], gap: int = 8) -> Image.Image:
    """Images in a row, scaled to the height of the lowest, each under its title."""
    height = min(image.height for image in images)
    images = [image.resize((round(image.width * height / image.height), height)) for image in images]
    size = label_size(images[0])
    head = round(size * 1.8)
    page = Image.new("RGB", (sum(image.width + gap for image in images) - gap, height + head), PANEL)
    draw = ImageDraw.Draw(page)
    left = 0
    for image, title in zip(images, titles, strict=True):
        page.paste(image, (left, head))
        text = shortened(draw, title, size, image.width - size)
        write(draw, (left + size // 2, head // 2), text, size, INK)
        left += image.width + gap
    return page


def make_palette(num_classes: int) -> list[Colour]:
    """Distinct RGB colours, 0..255. Hues are a golden ratio apart, so neighbours in the list look different."""
    colours = []
    for i in range(num_classes):
        saturation, value = ((0.75, 0.95), (0.55, 0.75), (0.9, 0.6))[i // 12 % 3]
        rgb = colorsys.hsv_to_rgb((0.02 + i * 0.618034) % 1, saturation, value)
        colours.append(tuple(round(255 * c) for c in rgb))
    return colours


def enlarged(image: Image.Image, least: int = MIN_WIDTH) -> tuple[Image.Image, int]:
    """The image as RGB, enlarged by a whole number to a width of at least ``least`` pixels, and that number."""
    scale = max(1, -(-least // image.width))
    size = (image.width * scale, image.height * scale)
    return image.convert("RGB").resize(size, Image.Resampling.BICUBIC) if scale > 1 else image.convert("RGB"), scale


def tinted(canvas: Image.Image, regions: Iterable[tuple], opacity: float, scale: int = 1) -> Image.Image:
    """Lays colours over masks, later ones on top.

    Args:
        canvas: RGB.
        regions: (mask, colour), or (mask, colour, (top, left)) with the place of a mask that is a part of the image.
        opacity: of the colours, in 0..1.
        scale: how many times the canvas is larger than the image.
    """
    pixels = np.asarray(canvas).copy()
    for mask, colour, *corner in regions:
        top, left = corner[0] if corner else (0, 0)
        mask = mask.repeat(scale, 0).repeat(scale, 1) if scale > 1 else mask
        (height, width), area = mask.shape, pixels[top * scale :, left * scale :]
        for start in range(0, height, BAND):  # since the colours of an area as floats need much memory
            part = mask[start : start + BAND]
            band = area[start : start + len(part), :width]
            band[part] = (1 - opacity) * band[part] + opacity * np.array(colour)
    return Image.fromarray(pixels)


def region_of(masks: Any, i: int, colour: Colour) -> tuple[np.ndarray, Colour, tuple[int, int]]:
    """A region of :func:`tinted` for one of N masks. Masks of large images give the part that an object fills."""
    if hasattr(masks, "part"):
        mask, corner = masks.part(i)
        return mask, colour, corner
    return np.asarray(masks[i], bool), colour, (0, 0)


def write_label(draw: ImageDraw.ImageDraw, text: str, box: np.ndarray, colour: Colour, size: int) -> None:
    """Draws a word on a plate of the box's colour: above the box if there is room, else inside."""
    width, height = length(draw, text, size) + size * 0.5, size * 1.3
    left = max(0, min(box[0], draw.im.size[0] - width))
    top = box[1] - height if box[1] >= height else box[1]
    draw.rectangle([left, top, left + width, top + height], fill=tuple(colour))
    write(draw, (left + size * 0.25, top + height / 2), text, size, readable_on(colour))


def with_legend(canvas: Image.Image, lines: Sequence[tuple[str, Colour]]) -> Image.Image:
    """The canvas with coloured words below, in as many columns as fit."""
    if not lines:
        return canvas
    size = label_size(canvas)
    row = round(size * 1.6)
    measure = ImageDraw.Draw(canvas)
    column = max(length(measure, text, size) for text, _ in lines) + 2.4 * size
    columns = max(1, min(len(lines), int(canvas.width // column)))
    column, rows = canvas.width / columns, -(-len(lines) // columns)
    page = Image.new("RGB", (canvas.width, canvas.height + rows * row + row // 2), PANEL)
    page.paste(canvas)
    draw = ImageDraw.Draw(page)
    for k, (text, colour) in enumerate(lines):
        left, top = (k % columns) * column + size * 0.5, canvas.height + row // 4 + (k // columns) * row
        draw.rectangle([left, top + row * 0.2, left + size, top + row * 0.2 + size], fill=colour)
        text = shortened(draw, text, size, column - 2 * size)
        write(draw, (left + size * 1.5, top + row / 2), text, size, INK)
    return page


def percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def label_size(canvas: Image.Image) -> int:
    return max(14, round(max(canvas.size) / 50))


def readable_on(colour: Colour) -> Colour:
    red, green, blue = colour
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)


def reduced(image: Image.Image, most: int = MOST_SIDE) -> Image.Image:
    """The image, reduced so that no side has more than ``most`` pixels."""
    scale = most / max(image.size)
    size = [max(1, round(side * scale)) for side in image.size]
    return image if scale >= 1 else image.resize(size, Image.Resampling.LANCZOS)

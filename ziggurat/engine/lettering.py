"""Words on pictures, in any alphabet that a font of the machine has.

Pillow's own font has ASCII letters. Other letters come from DejaVu Sans, which matplotlib brings with it (Latin,
Cyrillic, Greek and more), or else from a font of the system, such as Noto Sans CJK.
"""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from PIL import ImageDraw, ImageFont

from ziggurat.engine.console import say_note

ELLIPSIS = "…"  # Pillow's own font has it


def write(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, fill: tuple[int, int, int], anchor="lm"
) -> None:
    """Writes a word at a place, in pixels. ``anchor`` is Pillow's: "lm" is the middle of the left side."""
    text = drawable(text)
    draw.text(place, text, fill=fill, font=font(size, font_file(text)), anchor=anchor)


def length(draw: ImageDraw.ImageDraw, text: str, size: int) -> float:
    """The width of a word in pixels."""
    text = drawable(text)
    return draw.textlength(text, font=font(size, font_file(text)))


def shortened(draw: ImageDraw.ImageDraw, text: str, size: int, width: float) -> str:
    """The beginning of a word that fits into a width, in pixels, with an ellipsis for the rest."""
    while len(text) > 1 and length(draw, text, size) > width:
        text = text.rstrip(ELLIPSIS)[:-1] + ELLIPSIS
    return text


@cache
def drawable(text: str) -> str:
    """A word on one line, with letters that no font has as their numbers, such as U+732B.

    A note tells of such letters, once for each.
    """
    text = re.sub(r"\s", " ", text)
    lacking = letters_of(text) - letters_in(font_file(text))
    if not lacking:
        return text
    say_lacking(frozenset(lacking))
    return "".join(f"U+{ord(letter):04X}" if ord(letter) in lacking else letter for letter in text)


@cache
def say_lacking(letters: frozenset[int]) -> None:
    shown = "".join(map(chr, sorted(letters)))
    say_note(f"no font of this machine has the letters {shown!r}; they are drawn as their numbers")


@cache
def font_file(text: str) -> Path | None:
    """The font that a word is drawn with: None for Pillow's own."""
    needed = letters_of(text)
    if not needed:
        return None
    if needed <= letters_in(dejavu()):
        return dejavu()
    return max(fonts(), key=lambda path: len(needed & letters_in(path)))


def families(words: Iterable[str]) -> list[str]:
    """The names under which matplotlib knows the fonts of the system that have letters of these words.

    They go behind a family of DejaVu, as in ``fontfamily=["DejaVu Sans", *families(words)]``: matplotlib takes each
    letter from the first font that has it.
    """
    files = dict.fromkeys(file for word in words if (file := font_file(word)) not in (None, dejavu()))
    return [family_of(file) for file in files]


@cache
def family_of(file: Path) -> str:
    """The name of a font file, which matplotlib then knows."""
    from matplotlib.font_manager import FontProperties, fontManager

    fontManager.addfont(file)
    return FontProperties(fname=file).get_name()


@cache
def dejavu() -> Path:
    """The file of DejaVu Sans. matplotlib and fontTools are imported for letters beyond ASCII alone."""
    from matplotlib import get_data_path

    return Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf")


@cache
def fonts() -> list[Path]:
    """DejaVu Sans, and the fonts of the system."""
    from matplotlib import font_manager

    return [dejavu(), *map(Path, sorted(font_manager.findSystemFonts()))]


def letters_of(text: str) -> set[int]:
    """The numbers of a word's letters that Pillow's own font lacks."""
    return {ord(letter) for letter in text if not letter.isascii() and not letter.isspace() and letter != ELLIPSIS}


@cache
def letters_in(path: Path | None) -> frozenset[int]:
    """The letters of a font file; none for a file that is no font."""
    if path is None:
        return frozenset()
    from fontTools.ttLib import TTFont
    from fontTools.ttLib.ttFont import TTLibError

    try:
        with TTFont(path, fontNumber=0, lazy=True) as face:
            return frozenset(face.getBestCmap() or ())
    except (OSError, TTLibError, ValueError):
        return frozenset()


@cache
def font(size: int, path: Path | None) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size) if path is None else ImageFont.truetype(str(path), size)

"""Words of any alphabet are drawn: each letter as its own picture, never as the box of a letter that a font lacks."""

import warnings

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from PIL import Image, ImageDraw

from ziggurat.engine import lettering
from ziggurat.engine.confusion import draw_confusion
from ziggurat.engine.lettering import dejavu, drawable, font_file, letters_in, shortened, write


def drawn(text):
    picture = Image.new("RGB", (400, 40))
    write(ImageDraw.Draw(picture), (4, 20), text, 24, (255, 255, 255))
    return np.asarray(picture)


@pytest.fixture
def no_system_fonts(monkeypatch):
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    for function in (lettering.fonts, drawable, lettering.say_lacking, font_file):
        function.cache_clear()
    yield
    for function in (lettering.fonts, drawable, lettering.say_lacking, font_file):
        function.cache_clear()


@pytest.mark.parametrize("word", ["кошка", "Käse", "γάτα", "köpek", "mačka", "ねこ猫"])
def test_letters_are_told_apart(word, no_system_fonts):
    """Words of equal length whose letters a font lacks would be equal rows of boxes."""
    assert (drawn(word) != drawn(word[::-1])).any()
    assert all((drawn(letter) != drawn(other)).any() for letter in word for other in word if letter != other)


def test_ascii_words_have_pillows_own_font():
    assert font_file("traffic light") is None and font_file("traffic li…") is None


def test_letters_that_no_font_has_are_numbers(no_system_fonts, capsys):
    assert drawable("cat 猫") == "cat U+732B" and drawable("cat 猫") == "cat U+732B"
    assert drawable("cat 猫 15%") == "cat U+732B 15%"
    assert capsys.readouterr().err.count("no font of this machine has the letters '猫'") == 1
    assert ord("猫") not in letters_in(dejavu())


def test_a_font_of_the_system_serves_letters_that_dejavu_lacks(monkeypatch, tmp_path, no_system_fonts):
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    (tmp_path / "cjk.ttf").symlink_to(dejavu())
    real = lettering.letters_in
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: sorted(map(str, tmp_path.iterdir())))
    monkeypatch.setattr(
        lettering, "letters_in", lambda path: frozenset({0x732B}) if path and path.name == "cjk.ttf" else real(path)
    )
    assert font_file("猫").name == "cjk.ttf" and drawable("猫") == "猫"


def test_a_long_word_is_cut_to_its_width():
    draw = ImageDraw.Draw(Image.new("RGB", (10, 10)))
    for word in ("кошка" * 20, "cat" * 30):
        cut = shortened(draw, word, 20, 150)
        assert cut.endswith("…") and word.startswith(cut[:-1])
        assert lettering.length(draw, cut, 20) <= 150 < lettering.length(draw, word, 20)


def test_a_word_of_several_lines_is_written_on_one():
    draw = ImageDraw.Draw(Image.new("RGB", (100, 40)))
    assert lettering.length(draw, "two\nlines", 20) == lettering.length(draw, "two lines", 20)
    write(draw, (0, 20), "two\nlines", 20, (255, 255, 255))


def font_of(letter, path):
    """A font of one letter, which is a filled square."""
    pen = TTGlyphPen(None)
    for i, point in enumerate([(100, 0), (100, 800), (900, 800), (900, 0)]):
        (pen.lineTo if i else pen.moveTo)(point)
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "letter"])
    builder.setupCharacterMap({ord(letter): "letter"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "letter": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "letter": (1000, 100)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": f"Only {ord(letter)}", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


@pytest.mark.parametrize("has_font", [True, False])
def test_a_confusion_matrix_has_the_letters_of_a_font_of_the_system_or_numbers(
    has_font, monkeypatch, tmp_path, no_system_fonts
):
    names = ["cat", "кошка", "猫 cat"]
    if has_font:
        font_of("猫", tmp_path / "only.ttf")
        monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(tmp_path / "only.ttf")])
    counts = np.array([[5, 1, 1], [0, 5, 1], [2, 2, 5]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of a letter that it draws as a box
        picture = draw_confusion(counts, names)
        with_number = draw_confusion(counts, [*names[:2], "U+732B cat"])
    assert lettering.families(names) == (["Only 29483"] if has_font else [])
    assert (picture.tobytes() == with_number.tobytes()) != has_font

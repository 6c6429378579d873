"""What tools are told to read: files, folders, patterns, and lists of these."""

import io
import os

import pytest

from backbones.errors import UserError
from ziggurat.engine.given import expanded


@pytest.fixture(autouse=True)
def photos(tmp_path, monkeypatch):
    (tmp_path / "photos/deep").mkdir(parents=True)
    for name in ("photos/b.jpg", "photos/a.jpg", "photos/deep/c.jpg", "photos/[1].jpg", "photos/n.png", "lone.jpg"):
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_words_keep_their_order_and_come_once():
    assert expanded(["photos", "lone.jpg", "photos"]) == ["photos", "lone.jpg"]
    assert expanded(["absent.jpg"]) == ["absent.jpg"], "an absent file is named where it is read"


def test_patterns():
    assert expanded(["photos/*.jpg"]) == ["photos/[1].jpg", "photos/a.jpg", "photos/b.jpg"]
    assert expanded(["photos/**/c.*"]) == ["photos/deep/c.jpg"]
    assert expanded(["photos/[1].jpg"]) == ["photos/[1].jpg"], "a file of that name comes before the pattern"


def test_lists(photos, monkeypatch):
    (photos / "photos/list.txt").write_text(
        "\ufeffa.jpg\r\n\n  deep/*.jpg  \nhttps://example.org/x.png\nlone.jpg\n/abs.jpg\n"
    )
    expected = ["photos/a.jpg", "photos/deep/c.jpg", "https://example.org/x.png", "lone.jpg", "/abs.jpg"]
    assert expanded(["photos/list.txt"]) == expected
    monkeypatch.setattr("sys.stdin", io.StringIO("lone.jpg\nphotos/*.png\n"))
    assert expanded(["-"]) == ["lone.jpg", "photos/n.png"]


@pytest.mark.parametrize(
    ("word", "content", "message"),
    [
        ("photos/*.gif", None, r"photos/\*\.gif matches no file; allowed: files, folders, patterns"),
        ("no.txt", None, r"list no\.txt: No such file or directory; allowed: a text file"),
        ("list.txt", b"", r"list list\.txt is empty; allowed: a path in each line"),
        ("list.txt", b" \n\n", "is empty"),
        ("list.txt", b"\x89PNG\x00\x00", r"list list\.txt is no text \(line 1\)"),
        ("list.txt", b"photos/*.gif", "matches no file"),
    ],
)
def test_what_stands_for_nothing_is_named(photos, word, content, message):
    if content is not None:
        (photos / word).write_bytes(content)
    with pytest.raises(UserError, match=message):
        expanded([word])


def test_names_that_are_no_text_stay_what_they_are(photos):
    (photos / "list.txt").write_bytes(b"photos/\xff.jpg\n")
    assert expanded(["list.txt"]) == ["photos/\udcff.jpg"]


def test_a_name_on_standard_input_may_be_no_text(tmp_path, monkeypatch):
    path = os.fsencode(tmp_path) + b"/caf\xe9.png"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(path + b"\n"), encoding="utf-8"))
    assert expanded(["-"]) == [os.fsdecode(path)]

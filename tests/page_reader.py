"""Reading a page as a browser does: its tags, the files that it names, the filters and the cards."""

import os
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes

VOID = {"meta", "img", "link", "input", "br", "hr"}


class PageReader(HTMLParser):
    """A page.

    Attributes:
        scripts: the number of scripts.
        files: the paths that the page names, below its folder.
        cards: a dict of ``name``, ``marks`` and ``files`` for each image.
        options: (filter, number) -> the text of a choice.
        text: everything that is to be read.
    """

    def __init__(self, path):
        super().__init__()
        self.open, self.scripts, self.files, self.cards, self.options, self.words = [], 0, [], [], {}, []
        self.filter = self.option = None
        self.feed(Path(path).read_text(encoding="utf-8"))
        self.close()
        assert not self.open, f"not closed: {self.open}"
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        assert not [name for name in attrs if name.startswith("on")], f"<{tag}> runs something"
        self.scripts += tag == "script"
        for name in ("src", "href"):
            address = attrs.get(name, "#")
            if not address.startswith("#"):
                assert "://" not in address and not address.startswith(("//", "data:", "javascript:")), address
                self.files.append(os.fsdecode(unquote_to_bytes(address)))
        if tag == "article":
            self.cards.append(dict(name="", marks=set(attrs["data-marks"].split()), files=[]))
        if tag == "img":
            assert attrs["alt"] and attrs["loading"] == "lazy" and int(attrs["width"]) and int(attrs["height"])
            if self.cards:
                self.cards[-1]["files"].append(self.files[-1])
        if tag == "select":
            self.filter = attrs["data-filter"]
        if tag == "option" and attrs["value"]:
            self.option = (self.filter, attrs["value"])
            self.options[self.option] = ""
        self.open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes another tag"
        self.option = None if tag == "option" else self.option

    def handle_data(self, data):
        if "script" in self.open or "style" in self.open:
            return
        self.words.append(data)
        if self.option:
            self.options[self.option] += data
        if "h3" in self.open:
            self.cards[-1]["name"] += data

    def counts(self):
        """Each choice of each filter with its number of images, checked against the cards' own marks."""
        found = {}
        for (of, value), text in self.options.items():
            name, _, count = text.strip().rpartition(" (")
            found[int(of), name] = int(count[:-1])
            assert found[int(of), name] == sum(f"{of}:{value}" in card["marks"] for card in self.cards)
        return found

"""A file is the old one or the whole new one."""

import json
import math

import pytest

from backbones.files import replaced_file, write_json


def test_a_file_is_replaced_when_it_is_whole(tmp_path):
    path = tmp_path / "new/metrics.json"
    for text in ("old", "new"):
        with replaced_file(path) as beside:
            beside.write_text(text)
            assert path.exists() == (text == "new") and (not path.exists() or path.read_text() == "old")
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text("old")
    with pytest.raises(OSError, match="disk full"), replaced_file(path) as beside:
        beside.write_text("half of")
        raise OSError("disk full")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_json_has_no_words_that_other_programs_refuse(tmp_path):
    write_json(tmp_path / "m.json", {"a": math.nan, "b": [1, -math.inf, {"c": math.inf}], "d": "NaN"})

    def refuse(word):
        raise ValueError(word)

    found = json.loads((tmp_path / "m.json").read_text(), parse_constant=refuse)
    assert found == {"a": None, "b": [1, None, {"c": None}], "d": "NaN"}

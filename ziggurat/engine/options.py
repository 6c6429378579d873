"""``--cfg-options KEY=VALUE``: mmengine's syntax of values, except that names, spaces and quoted text stay as typed."""

import ast
import re
from collections.abc import Iterator
from typing import Any

from backbones.errors import UserError

PAIRS = {"(": ")", "[": "]", "{": "}"}
# Options whose values are names or paths, even if they look like numbers: a folder 2017, a class "0".
TEXTS = {"data_root", "work_dir", "load_from", "ann_file", "folder", "classes", "pretrained", "arch", "experiment_name"}
TEXT_GROUPS = {"data_prefix"}  # every value inside is a path
DICT_CALL = re.compile(r"\bdict\s*\(")


def parse_options(options: list[str]) -> dict[str, Any]:
    """``["a.b=1", "c=[1,x]", "d='two words'"]`` as ``{"a.b": 1, "c": [1, "x"], "d": "two words"}``.

    A value is one of these:

    - a number, ``true``, ``false`` or ``None``;
    - text, in quotes if it looks like another kind. Names and paths (``TEXTS``) are always text;
    - a list ``[1,2]`` or ``1,2``, or a tuple ``(1,2)``, of values;
    - a dict in Python's form, ``{"a": 1}``.

    Blanks around ``=`` do not count. ``data_root`` is taken whole, with its commas and quotes.

    Raises:
        UserError: an option has no ``=`` or an empty key, its brackets or quotes do not match, or a value is
            ``dict(...)``.
    """
    parsed = {}
    for option in options:
        key, equals, value = (part.strip() for part in option.partition("="))
        if not equals or not key or not all(key.split(".")):
            raise UserError(f"bad option {option!r}; allowed: KEY=VALUE, e.g. train_dataloader.batch_size=32")
        try:
            parsed[key] = value if key == "data_root" else parse_value(value, is_text(key))
            if key == "classes" and isinstance(parsed[key], str) and parsed[key].isdigit():
                parsed[key] = int(parsed[key])  # the number of classes; classes=[10] is a class named 10
        except (ValueError, SyntaxError):
            if DICT_CALL.search(value):
                raise UserError(f"bad option {option!r}; write a dict as {{'type': ...}}, not as dict(...)") from None
            raise UserError(f"bad option {option!r}; its brackets or quotes do not match") from None
    return parsed


def flat(options: dict[str, Any], name: str = "", lists: bool = False) -> dict[str, Any]:
    """Options with dotted keys only: ``{"a": {"b": 1}}`` is ``{"a.b": 1}``.

    With ``lists`` the dicts in a list count as well: ``{"a": [{"b": 1}]}`` is ``{"a[0].b": 1}``.
    """
    found: dict[str, Any] = {}
    for key, value in options.items():
        if lists and isinstance(value, list | tuple) and any(isinstance(part, dict) for part in value):
            found |= flat({f"{key}[{i}]": part for i, part in enumerate(value)}, name, lists)
        elif isinstance(value, dict) and value:
            found |= flat(value, f"{name}{key}.", lists)
        else:
            found[f"{name}{key}"] = value
    return found


def is_text(key: str) -> bool:
    *groups, last = key.split(".")
    return last in TEXTS or bool(groups and groups[-1] in TEXT_GROUPS)


def parse_value(text: str, as_text: bool = False) -> Any:
    """One value. ``as_text`` keeps numbers as text. Raises ValueError or SyntaxError for bad brackets."""
    text = text.strip()
    if text.startswith("{"):
        return ast.literal_eval(text)
    parts = list(split_at_commas(text))
    if len(parts) > 1:
        return [parse_value(part, as_text) for part in parts if part.strip()]
    if text[:1] in ("(", "["):
        if text[-1] != PAIRS[text[0]]:
            raise ValueError
        values = [parse_value(part, as_text) for part in split_at_commas(text[1:-1]) if part.strip()]
        return tuple(values) if text[0] == "(" else values
    return parse_single(text, as_text)


def split_at_commas(text: str) -> Iterator[str]:
    """The parts between commas outside brackets and quotes; ValueError if brackets or quotes do not match."""
    open_brackets, quote, start = [], "", 0
    for i, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"" and text[:i].rstrip()[-1:] in ("", *"([{,:"):  # an apostrophe within a word is no quote
            quote = char
        elif char in PAIRS:
            open_brackets.append(PAIRS[char])
        elif char in PAIRS.values():
            if not open_brackets or open_brackets.pop() != char:
                raise ValueError
        elif char == "," and not open_brackets:
            yield text[start:i]
            start = i + 1
    if quote or open_brackets:
        raise ValueError
    yield text[start:]


def parse_single(text: str, as_text: bool) -> Any:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    if DICT_CALL.match(text):
        raise ValueError
    words = {"true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    if text == "None":
        return None
    for number in () if as_text else (int, float):
        try:
            return number(text)
        except ValueError:
            pass
    return text

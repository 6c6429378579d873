"""Reading annotation files as data, with one-line errors: texts, JSON, YAML and XML of a bounded size."""

import contextlib
import gc
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

from backbones.errors import UserError, one_line
from backbones.files import PatientFile

MOST_BYTES = 1 << 32  # of a json or xml of a whole data set
MOST_OF_ONE = 1 << 26  # of the file of one image, or of a list
DEEPEST = 100  # elements of XML in each other


def read_bytes(path: Path, most: int = MOST_OF_ONE) -> bytes:
    """The content of a file; UserError if it is absent, not readable or larger than ``most`` bytes."""
    try:
        size = path.stat().st_size
        if size > most:
            raise UserError(f"{path} has {size} bytes; allowed: up to {most}")
        with io.BufferedReader(PatientFile(path)) as file:
            return file.read(most)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def read_text(path: Path, most: int = MOST_OF_ONE) -> str:
    """The text of a file in UTF-8, with or without a byte order mark. UserError as :func:`read_bytes`, or no text."""
    try:
        return read_bytes(path, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8, at byte {error.start}; allowed: UTF-8") from None


def read_json(path: Path, most: int = MOST_BYTES) -> Any:
    """The content of a JSON file, with or without a byte order mark. UserError names the line of a flaw."""
    try:
        return json.loads(read_bytes(path, most))
    except RecursionError:
        raise UserError(f"{path}: lists in lists without end") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: broken json at line {error.lineno}, column {error.colno}: {error.msg}") from None
    except UserError:
        raise
    except ValueError as error:  # no text, or a number of more digits than Python reads
        raise UserError(f"{path}: cannot be read ({error})") from None


def read_yaml(path: Path) -> Any:
    """The content of a YAML file, of plain types alone. UserError names the line of a flaw."""
    import yaml

    try:
        return yaml.safe_load(read_text(path, 1 << 20))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: broken YAML ({getattr(error, 'problem', None) or one_line(error)})") from None
    except (RecursionError, ValueError) as error:
        raise UserError(f"{path}: broken YAML ({one_line(error)})") from None


@dataclass
class Node:
    """An element of XML. ``line`` is its place in the file, from 1."""

    tag: str
    attributes: dict[str, str]
    line: int
    text: str = ""
    children: list["Node"] = field(default_factory=list)

    def all(self, tag: str) -> Iterator["Node"]:
        """The children of a tag."""
        return (child for child in self.children if child.tag == tag)

    def first(self, *tags: str) -> "Node | None":
        """The element that tags lead to, by the first child of each."""
        node: Node | None = self
        for tag in tags:
            node = next(node.all(tag), None) if node else None
        return node

    def text_of(self, *tags: str) -> str:
        """The text of the element that tags lead to; "" without one."""
        node = self.first(*tags)
        return node.text.strip() if node else ""


def read_xml(path: Path, most: int = MOST_BYTES) -> Node:
    """The root element of an XML file.

    expat is used as it is, since ElementTree knows no lines. A document type declaration is refused, since it can hold
    entities that grow without end or name other files.

    Raises:
        UserError: the file cannot be read or is no XML, declares a document type, or is nested too deeply.
    """
    top = Node("", {}, 0)
    open_nodes = [top]
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def start(tag: str, attributes: dict[str, str]) -> None:
        node = Node(tag, attributes, parser.CurrentLineNumber)
        open_nodes[-1].children.append(node)
        open_nodes.append(node)
        if len(open_nodes) > DEEPEST:
            raise UserError(f"{path}, line {node.line}: elements in elements; allowed: {DEEPEST} in each other")

    def end(tag: str) -> None:
        open_nodes.pop()

    def characters(text: str) -> None:
        open_nodes[-1].text += text

    def refuse(*declared: Any) -> None:
        raise UserError(
            f"{path}, line {parser.CurrentLineNumber}: a document type declaration; allowed: XML without, since it can "
            "name other files"
        )

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, characters
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    try:
        parser.Parse(read_bytes(path, most), True)
    except expat.ExpatError as error:
        raise UserError(f"{path}, line {error.lineno}: broken XML ({expat.ErrorString(error.code)})") from None
    except UserError:
        raise
    except (LookupError, ValueError) as error:  # an encoding that nobody knows, or a null byte
        raise UserError(f"{path}: broken XML ({one_line(error)})") from None
    return top.children[0]


def number_of(text: Any, where: str, what: str) -> float:
    """A number of a text file; UserError for anything but a finite one."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = float("nan")
    if not abs(value) < 1 << 53:
        raise UserError(f"{where}: {what} is {text!r}; allowed: a number")
    return value


@contextlib.contextmanager
def no_garbage() -> Iterator[None]:
    """A block that makes millions of objects that stay. Looking for garbage among them would take half of its time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()

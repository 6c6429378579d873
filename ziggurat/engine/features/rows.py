"""Images in tables, such as the data sets of the Hugging Face hub: a column of bytes, or of bytes and paths.

The hub has Parquet files. ``datasets.Dataset.save_to_disk`` writes a folder with Arrow files.
"""

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from backbones.errors import UserError
from backbones.images import read_pixels
from backbones.reading import Reading
from backbones.store.layout import import_pyarrow, to_text

PARQUET, ARROW = ".parquet", ".arrow"
COLUMNS = ("image", "img", "jpg", "png", "bytes")  # the first of them that a file has is taken


class RowImage(NamedTuple):
    """An image in a row of a Parquet file.

    Attributes:
        group: the number of its row group, counted from 0.
        row: its place in this group.
    """

    name: str
    path: str
    group: int
    row: int

    def pixels(self, reading: Reading) -> np.ndarray:
        """uint8 (H, W, C). UserError if it cannot be read."""
        return pixels_of(self.name, column_of(self.path, self.group)[self.row].as_py(), reading)


class ArrowImage(NamedTuple):
    """An image in a row of an Arrow file."""

    name: str
    path: str
    row: int

    def pixels(self, reading: Reading) -> np.ndarray:
        """As :meth:`RowImage.pixels`."""
        return pixels_of(self.name, arrow_column(self.path)[self.row].as_py(), reading)


def pixels_of(name: str, content: Any, reading: Reading) -> np.ndarray:
    """The pixels of a value of a column. A row of ``datasets`` may have the path of a file in place of its bytes."""
    if isinstance(content, dict):
        path = content.get("path")
        content = content.get("bytes")
        if content is None and path and os.path.isfile(path):
            return read_pixels(path, None, reading)
    if not isinstance(content, bytes):
        raise UserError(f"image is empty: {name}")
    return read_pixels(name, content, reading)


def arrow_rows_of(path: Path) -> Iterator[ArrowImage]:
    """The rows of an Arrow file. UserError if the file is absent, damaged, or has no column of images."""
    return (ArrowImage(to_text(f"{path}/{row}"), str(path), row) for row in range(len(arrow_column(str(path)))))


@lru_cache(maxsize=64)
def arrow_column(path: str) -> Any:
    """The images of an Arrow file, a stream or a file of random access. They stay on the disk until they are used."""
    pa = import_pyarrow()
    try:
        mapped = pa.memory_map(path)
        try:
            table = pa.ipc.open_stream(mapped).read_all()
        except pa.ArrowInvalid:
            mapped.seek(0)
            table = pa.ipc.open_file(mapped).read_all()
    except FileNotFoundError:
        raise UserError(f"no such file: {path}") from None
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} is no Arrow file: {' '.join(str(error).split())[:200]}") from None
    return table[column_name(table.schema, path)]


def rows_of(path: Path) -> Iterator[RowImage]:
    """The rows of a Parquet file. UserError if the file is absent, damaged, or has no column of images."""
    file = opened(str(path))
    column_name(file.schema_arrow, str(path))
    number = 0
    for group in range(file.num_row_groups):
        for row in range(file.metadata.row_group(group).num_rows):
            yield RowImage(to_text(f"{path}/{number}"), str(path), group, row)
            number += 1


@lru_cache(maxsize=2)
def column_of(path: str, group: int) -> Any:
    """The images of a row group. The last ones are kept, since rows are read one after the other."""
    file = opened(path)
    try:
        name = column_name(file.schema_arrow, path)
        return file.read_row_group(group, columns=[name])[name]
    except (OSError, import_pyarrow().ArrowException) as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from None


def column_name(schema: Any, path: str) -> str:
    """The column of images: bytes, or a struct with ``bytes``, as the library ``datasets`` writes it."""
    pa = import_pyarrow()
    for name in COLUMNS:
        kind = schema.field(name).type if name in schema.names else None
        is_struct = kind is not None and pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
        if is_struct or kind in (pa.binary(), pa.large_binary()):
            return name
    names = ", ".join(schema.names) or "none"
    raise UserError(f"{path} has the columns {names}; allowed: images as bytes in one of {', '.join(COLUMNS)}")


def opened(path: str) -> Any:
    pa = import_pyarrow()
    try:
        return pa.parquet.ParquetFile(path)
    except FileNotFoundError:
        raise UserError(f"no such file: {path}") from None
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} is no Parquet file: {' '.join(str(error).split())[:200]}") from None

"""What lies in the folder of a store.

::

    meta.json                            what the features were made from
    shards/shard_000_00000.safetensors   features: the first number is that of the process, the second counts its shards
    index/shard_000_00000.parquet        a row for each image of the shard of the same name, and for unreadable ones

Pooled features of a stage are one tensor ``stage3`` (N, C) or (N, C, K, K) in each shard. Maps are one tensor
``stage3.224x320`` (N, C, H, W) for each size of images, here 224 pixels high and 320 wide.

An index file is written after its shard is on the disk. So a shard counts from the moment at which its index is there.
"""

import importlib
import json
import re
from pathlib import Path
from typing import Any

from backbones.errors import UserError, shown
from backbones.files import with_null, write_json

FORMAT = 1
META = "meta.json"
SHARDS, INDEX = "shards", "index"  # folders
SHARD, PART = ".safetensors", ".parquet"
NAME = re.compile(r"shard_(\d{3,})_(\d{5,})")
OVERWRITE = "--overwrite"


def shard_name(rank: int, number: int) -> str:
    """The name, without suffix, of shard ``number`` of the process ``rank``."""
    return f"shard_{rank:03d}_{number:05d}"


def key_of(stage: str, size: tuple[int, int] | None) -> str:
    """The name of a tensor in a shard. ``size`` is (height, width) of the images; None for pooled features."""
    return stage if size is None else f"{stage}.{size[0]}x{size[1]}"


def to_text(name: str) -> str:
    """A name in Unicode. Bytes of a file name that are no text are written as ``\\xe9``."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def parts_of(store: Path) -> list[Path]:
    """The index files of a store, in the order of processes, and of each in the order of writing."""
    found = [(NAME.fullmatch(path.stem), path) for path in (store / INDEX).glob(f"shard_*{PART}")]
    return [path for *_, path in sorted((int(name[1]), int(name[2]), path) for name, path in found if name)]


def import_pyarrow() -> Any:
    """``pyarrow`` with its modules ``compute`` and ``parquet``; UserError if it is not installed."""
    try:
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError:
        raise UserError("a store of features needs pyarrow: pip install pyarrow") from None
    return pyarrow


def import_extra(module: str, what: str, package: str) -> Any:
    """A module that few need; UserError if it is not installed.

    Args:
        module: its name.
        what: what needs it, for the message.
        package: what pip installs.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UserError(f"{what} needs {module}, which is not installed; pip install {package!r}") from None


def read_meta(store: Path) -> dict[str, Any]:
    """The content of ``meta.json``; UserError if there is none, or of another format."""
    try:
        content = json.loads((store / META).read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise UserError(f"{store} is a store of format {shown(content['format'])}; allowed: {FORMAT}")
        if isinstance(content["settings"]["stages"], dict):
            return content
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"no store of features: {store} has no {META}") from None
    except OSError as error:
        raise UserError(f"{store / META}: {error.strerror}; allowed: the file of a store of features") from None
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, UserError):
            raise
    raise UserError(f"{store / META} is damaged; allowed: the file of a store of features")


def settle(store: Path, settings: dict[str, Any], about: dict[str, Any], is_alone: bool) -> None:
    """Writes the settings of a new store, or compares them with those of the features that are there.

    Args:
        store: the folder.
        settings: all that the features follow from, in JSON's types. It has ``stages``: name -> channels and stride.
        about: what is told but not compared, such as versions.
        is_alone: whether no other process uses the store. The settings of a store without features are then replaced.

    Raises:
        UserError: the features there have another setting.
    """
    settings = json.loads(json.dumps(with_null(settings)))
    is_there, is_empty = (store / META).exists(), not parts_of(store)
    if not is_there and not is_empty:
        raise UserError(f"{store} has features without {META}; allowed: another --out, or {OVERWRITE}")
    known = read_meta(store)["settings"] if is_there else None
    if known is None or (is_empty and is_alone):
        write_json(store / META, {"format": FORMAT, "settings": settings, **about}, durable=True)
        return
    for name in dict.fromkeys([*settings, *known]):
        if known.get(name) != settings.get(name):
            values = f"{name} {short(known.get(name))}, and this run has {short(settings.get(name))}"
            allowed = f"another --out, or {OVERWRITE}, which removes the features that are there"
            raise UserError(f"{store} has features with {values}; allowed: {allowed}")


def short(value: Any) -> str:
    """A value for a message. A SHA-256 is known by its first 8 digits."""
    if isinstance(value, dict):
        return ", ".join(value)
    return value[:8] if isinstance(value, str) and len(value) == 64 else shown(value)

"""Whatever mmengine loads runs no code: checkpoints at any address, pickled data, YAML, images.

Importing this replaces mmengine's own loaders. Those read a checkpoint that is not only weights a second time, with all
that its pickle asks for.
"""

import io
import pickle
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import yaml
from mmengine import fileio
from mmengine.fileio import BaseFileHandler, register_handler
from mmengine.runner import CheckpointLoader, get_external_models, get_mmcls_models, get_torchvision_models
from mmengine.runner.checkpoint import get_deprecated_model_names
from PIL import EpsImagePlugin

from backbones.errors import UserError, unknown
from backbones.weights import read_checkpoint
from backbones.weights.fetch import locate

EpsImagePlugin.gs_binary = False  # mmcv hands Pillow images of any format; one of them would start Ghostscript
PLAIN = {("builtins", "set"), ("__builtin__", "set"), ("builtins", "frozenset"), ("collections", "OrderedDict")}
ALLOWED = "pickled dicts, lists, texts and numbers, or a .json file"


@CheckpointLoader.register_scheme(prefixes=("", "http://", "https://"), force=True)
def load_from_anywhere(filename: str, map_location: Any = None) -> dict[str, Any]:
    """The content of a path, a URL or a name of our weights table, on the CPU. ``map_location`` is not used.

    Raises:
        UserError: the file is absent, cannot be downloaded, or is not only weights.
    """
    source = filename if "://" in filename else str(Path(filename).expanduser())
    return without_code(read_checkpoint(locate(None, source)))


@CheckpointLoader.register_scheme(prefixes=("modelzoo://", "torchvision://"), force=True)
def load_from_torchvision(filename: str, map_location: Any = None) -> dict[str, Any]:
    """The weights of torchvision's name, e.g. ``torchvision://resnet50``; errors as :func:`load_from_anywhere`."""
    return load_from_anywhere(address_of(filename, get_torchvision_models))


@CheckpointLoader.register_scheme(prefixes=("open-mmlab://", "openmmlab://"), force=True)
def load_from_openmmlab(filename: str, map_location: Any = None) -> dict[str, Any]:
    """The weights of OpenMMLab's name, e.g. ``open-mmlab://resnet18_v1c``; errors as :func:`load_from_anywhere`."""
    return load_from_anywhere(address_of(filename, get_external_models, get_deprecated_model_names()))


@CheckpointLoader.register_scheme(prefixes="mmcls://", force=True)
def load_from_mmcls(filename: str, map_location: Any = None) -> dict[str, Any]:
    """The backbone of mmclassification's name, e.g. ``mmcls://vgg16``; errors as :func:`load_from_anywhere`."""
    content = load_from_anywhere(address_of(filename, get_mmcls_models))
    state = content.get("state_dict", content)
    inside = "backbone."
    return dict(state_dict={name.removeprefix(inside): state[name] for name in state if str(name).startswith(inside)})


@CheckpointLoader.register_scheme(prefixes=(r"(\S+\:)?s3://", r"(\S+\:)?petrel://"), force=True)
def load_from_store(filename: str, map_location: Any = None) -> dict[str, Any]:
    """The content of a file that mmengine's file backends fetch; UserError as :func:`load_from_anywhere`."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / Path(filename).name
        copy.write_bytes(fileio.get(filename))
        return without_code(read_checkpoint(copy))


@CheckpointLoader.register_scheme(prefixes="pavi://", force=True)
def load_from_pavi(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Refuses an address that only a client of others can download."""
    raise UserError(f"{filename} cannot be downloaded here; allowed: a path, http(s)://, torchvision://, open-mmlab://")


def address_of(filename: str, find: Callable[[], Mapping[str, str]], renamed: Mapping[str, str] | None = None) -> str:
    """The address of a name such as ``torchvision://resnet50``.

    Args:
        find: gives the addresses of all names.
        renamed: old names -> new names.

    Raises:
        UserError: the name is unknown.
    """
    scheme, _, name = filename.partition("://")
    addresses = find()
    name = (renamed or {}).get(name, name)
    if name not in addresses:
        raise unknown(f"weights of {scheme}://", name, addresses)
    return addresses[name]


def without_code(content: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint without the config's text, which mmengine would run, and without curves.

    Curves are objects of mmengine. A read of weights alone leaves them empty.
    """
    meta, hub = content.get("meta"), content.get("message_hub")
    if isinstance(meta, Mapping) and "config" in meta:
        content = {**content, "meta": {name: value for name, value in meta.items() if name != "config"}}
    if isinstance(hub, Mapping) and "log_scalars" in hub:
        content = {**content, "message_hub": {**hub, "log_scalars": {}}}
    return content


class PlainUnpickler(pickle.Unpickler):
    """Reads dicts, lists, sets, texts and numbers. A pickle that asks for anything else is refused before it runs."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in PLAIN:
            return super().find_class(module, name)
        raise UserError(f"it asks for {module}.{name}, which can run code")


def loads(content: bytes) -> Any:
    """``pickle.loads`` of plain values.

    Raises:
        UserError: the pickle asks for anything else, or is damaged.
    """
    return PlainPickles().load_from_fileobj(io.BytesIO(content))


@register_handler(["pickle", "pkl"])
class PlainPickles(BaseFileHandler):
    """Pickled data for mmengine's ``load``. Writing is as in mmengine."""

    str_like = False

    def load_from_fileobj(self, file: BinaryIO, **kwargs: Any) -> Any:
        try:
            return PlainUnpickler(file).load()
        except Exception as error:  # a malformed pickle can raise any
            reason = error if isinstance(error, UserError) else "it is damaged"
            raise UserError(f"refused: a .pkl file of the config, {reason}; allowed: {ALLOWED}") from None

    def load_from_path(self, filepath: str, **kwargs: Any) -> Any:
        return super().load_from_path(filepath, mode="rb", **kwargs)

    def dump_to_fileobj(self, obj: Any, file: BinaryIO, **kwargs: Any) -> None:
        pickle.dump(obj, file, **{"protocol": 2, **kwargs})

    def dump_to_str(self, obj: Any, **kwargs: Any) -> bytes:
        return pickle.dumps(obj, **{"protocol": 2, **kwargs})

    def dump_to_path(self, obj: Any, filepath: str, **kwargs: Any) -> None:
        super().dump_to_path(obj, filepath, mode="wb", **kwargs)


class PlainLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML of plain values, and the tuples that mmengine's ``Config.dump`` writes."""


PlainLoader.add_constructor(
    "tag:yaml.org,2002:python/tuple", lambda loader, node: tuple(loader.construct_sequence(node, deep=True))
)


@register_handler(["yaml", "yml"])
class PlainYaml(BaseFileHandler):
    """YAML for mmengine's ``load``. Writing is as in mmengine."""

    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        return yaml.load(file, Loader=PlainLoader)

    def dump_to_fileobj(self, obj: Any, file: Any, **kwargs: Any) -> None:
        yaml.dump(obj, file, **kwargs)

    def dump_to_str(self, obj: Any, **kwargs: Any) -> str:
        return yaml.dump(obj, **kwargs)

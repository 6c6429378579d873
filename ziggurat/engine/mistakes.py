"""One-line errors for wrong names and values in a config."""

import contextlib
import re
import traceback
from collections.abc import Iterator
from types import FrameType

from mmengine.config import Config
from mmengine.registry import build_from_cfg, build_scheduler_from_cfg

from backbones import FAMILIES
from backbones.errors import UserError, arguments_of, one_line, unknown
from backbones.files import FAULTS

# mmengine builds every part of a config by one of these functions. Their frames hold the part that was being built.
BUILDERS = [build_from_cfg.__code__, build_scheduler_from_cfg.__code__]
OURS = ("backbones", "classification", "detection", "segmentation", "ziggurat")  # packages of this project
PARAMETERS = ("cfg", "registry", "default_args")
# Name of a network in other libraries, in lower case -> its type here.
TYPES = {family.__name__.lower(): family.__name__ for family in FAMILIES} | {"pyramidvig": "PViG"}


@contextlib.contextmanager
def config_mistakes(cfg: Config) -> Iterator[None]:
    """Turns an error of a part's constructor inside the block into a UserError that names the part.

    So does an error that a library raises for a value of the config. An error of our own code, outside constructors, is
    a fault of ours, and passes unchanged, as a fault of the machine does.
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FAULTS:
            raise
        frame = frame_that_built(error)
        if frame is not None:
            raise UserError(f"config {cfg.filename}: {describe(error, frame)}") from error
        library = library_that_raised(error)
        if library is None:
            raise
        raise UserError(f"config {cfg.filename}: {library} refuses a value: {one_line(error)}") from error


def library_that_raised(error: BaseException) -> str | None:
    """The function of a library that raised an error, with its module's name; None if our own code raised."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    module = str(frame.f_globals.get("__name__"))
    return None if module.split(".")[0] in OURS else f"{module}.{frame.f_code.co_name}"


def frame_that_built(error: BaseException) -> FrameType | None:
    """The frame of the innermost call of a builder that led to the error; None if there is none."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return next((frame for frame in reversed(frames) if frame.f_code in BUILDERS), None)


def describe(error: Exception, frame: FrameType) -> str:
    """The message for an error while a part was built, e.g. "unknown argument of AdamW 'lrr'; nearest: lr"."""
    cfg, registry, defaults = (frame.f_locals.get(name) for name in PARAMETERS)
    message = plain_message(error)
    if not isinstance(cfg, dict) or not {**cfg, **(defaults or {})}.get("type"):
        return message
    named = cfg.get("type") or defaults["type"]
    try:
        part = registry.get(named) if isinstance(named, str) else named
    except Exception:  # a name such as "../x", which mmengine takes for a module's
        return f"{named!r}: {message}"
    if part is None:
        return message + other_name(message)
    name = getattr(part, "__name__", str(part))
    refused = re.search(r"unexpected keyword argument '(\w+)'", message)
    if refused and refused[1] in {**cfg, **(defaults or {})}:
        return str(unknown(f"argument of {name}", refused[1], arguments_of(part)))
    return f"{name}: {message}"


def other_name(message: str) -> str:
    """A hint for "mmpretrain.VAN is not in the ... registry": our type of the same network, else ""."""
    name = re.match(r"(\S+) is not in the", message)
    return type_hint(name[1]) if name else ""


def type_hint(name: str) -> str:
    """``; use type="VAN" or ...`` for a name such as ``mmpretrain.VAN``; "" for a name of no network here."""
    ours = TYPES.get(name.split(".")[-1].lower())
    return f'; use type="{ours}" or type="Backbone", with arch=NAME of backbones.list_archs()' if ours else ""


def plain_message(error: Exception) -> str:
    """An error's text on one line, without mmengine's hint at its manual."""
    text = str(error.args[0]) if error.args else ""
    return " ".join(text.split(" Please check")[0].split()) or type(error).__name__

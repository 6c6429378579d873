"""What building from a config raises for a wrong name or value in it, told in one line."""

import contextlib
import re
import traceback
from collections.abc import Iterator
from types import FrameType

from mmengine.config import Config

from backbones import FAMILIES
from backbones.errors import UserError, arguments_of, unknown

# What other libraries call these networks, in lower case -> the type here.
TYPES = {family.__name__.lower(): family.__name__ for family in FAMILIES} | {"pyramidvig": "PViG"}


@contextlib.contextmanager
def config_mistakes(cfg: Config) -> Iterator[None]:
    """Whatever the constructor of a part of the config refuses meanwhile becomes a UserError naming that part.

    Errors from elsewhere are not the config's and pass as they are.
    """
    try:
        yield
    except UserError:
        raise
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        frame = building(error)
        if frame is None:
            raise
        raise UserError(f"config {cfg.filename}: {told(error, frame)}") from error


def building(error: BaseException) -> FrameType | None:
    """The innermost call, on the way to the error, that was building a part of the config."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return next((frame for frame in reversed(frames) if frame.f_code.co_name == "build_from_cfg"), None)


def told(error: Exception, frame: FrameType) -> str:
    part, given, message = frame.f_locals.get("obj_cls"), frame.f_locals.get("args") or {}, plain_message(error)
    if part is None:
        return message + other_name(message)
    name = getattr(part, "__name__", str(part))
    refused = re.search(r"unexpected keyword argument '(\w+)'", message)
    if refused and refused[1] in given:
        return str(unknown(f"argument of {name}", refused[1], arguments_of(part)))
    return f"{name}: {message}"


def other_name(message: str) -> str:
    """The type here of a network that the config calls by another library's name, e.g. ``mmpretrain.VAN``."""
    name = re.match(r"(?:\w+\.)*(\w+) is not in the", message)
    ours = TYPES.get(name[1].lower()) if name else None
    return f'; use type="{ours}" or type="Backbone", with arch=NAME of backbones.list_archs()' if ours else ""


def plain_message(error: Exception) -> str:
    text = str(error.args[0]) if error.args else ""
    return " ".join(text.split(" Please check")[0].split()) or type(error).__name__

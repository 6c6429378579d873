"""UserError, the one kind of error that a user's input causes, and its wording."""

import difflib
import inspect
import re
from collections.abc import Callable, Iterable

LONGEST = 1500  # characters of a message
WORKER = "Traceback (most recent call last)"  # is in an error that torch hands on from a data loader's worker
# Control characters but for tab and line feed, characters that turn the direction of text, and halves of characters.
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: object) -> str:
    """A text without characters that command a terminal, which are written as ``\\x1b``.

    Names in files, such as those of tensors, classes and files in an archive, may be anything.
    """
    return HIDDEN.sub(lambda found: ascii(found[0])[1:-1], str(text))


class UserError(ValueError):
    """A user's input is wrong. The message is one line: the thing, the value received, the values allowed.

    Example: ``in_chans is 0; allowed: integers from 1 up``. Tools print the message without a traceback, and exit with
    status 2. A value or a name in the message may hold anything. So line breaks become blanks, and a long message loses
    its middle.
    """

    def __init__(self, message: object = ""):
        text = printable(message)
        if WORKER not in text:  # whose last line is the message, see ziggurat.engine.cli.last_line
            text = text.replace("\n", " ")
            text = text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
        super().__init__(text)


class UnreadableImage(UserError):
    """An image file cannot be read."""


class Notice(UserWarning):
    """A warning of this project. Its own class lets a console tell it from the warnings of other packages."""

    def __init__(self, message: object = ""):
        super().__init__(printable(message))


def shown(value: object) -> str:
    """A value as one short piece of text: its repr, or for a long one or one of several lines the name of its type."""
    text = repr(value)
    return text if len(text) <= 120 and "\n" not in text else f"a {type(value).__name__}"


def one_line(error: BaseException) -> str:
    """An exception's class and message on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def unknown(what: str, value: object, allowed: Iterable[str]) -> UserError:
    """The error for a name that is not one of ``allowed``; the nearest names come first.

    Args:
        what: the kind of name, e.g. ``"arch"``.
        value: the name received.
        allowed: all valid names.
    """
    allowed = list(allowed)
    lower = {name.lower(): name for name in reversed(allowed)}  # VAN_B2 is near van_b2
    nearest = [lower[found] for found in difflib.get_close_matches(str(value).lower(), lower, n=3, cutoff=0.5)]
    if nearest and len(allowed) > 12:
        hint = f"nearest: {', '.join(nearest)} ({len(allowed)} are known)"
    else:
        rest = [name for name in allowed if name not in nearest]
        hint = f"allowed: {', '.join(nearest + rest) or 'none'}"
    return UserError(f"unknown {what} {value!r}; {hint}")


def shorten(names: Iterable[object], count: int = 3) -> str:
    """The first ``count`` names. If there are more: ``a, b, c, ... (9 in all)``."""
    names = [str(name) for name in names]
    return ", ".join(names[:count]) + (f", ... ({len(names)} in all)" if len(names) > count else "")


def arguments_of(maker: Callable) -> list[str]:
    """The names of the arguments of a function, or of a class and its base classes."""
    bases = [base.__init__ for base in maker.__mro__ if "__init__" in vars(base)] if inspect.isclass(maker) else [maker]
    names: dict[str, None] = {}
    for base in bases:
        for name, parameter in inspect.signature(base).parameters.items():
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) and name != "self":
                names[name] = None
    return list(names)

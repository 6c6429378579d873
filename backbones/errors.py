"""UserError, the one kind of error that a user's input causes, and its wording."""

import difflib
import inspect
from collections.abc import Callable, Iterable

LONGEST = 1500  # characters of a message


class UserError(ValueError):
    """A user's input is wrong. The message is one line: the thing, the value received, the values allowed.

    Example: ``in_chans is 0; allowed: integers from 1 up``. Tools print the message without a traceback, and exit with
    status 2. A value or a name in the message may hold anything. So line breaks and other characters that do not print
    are written as Python writes them, and a long message loses its middle.
    """

    def __str__(self) -> str:
        text = printable(super().__str__())
        return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"


class UnreadableImage(UserError):
    """An image file cannot be read."""


class Notice(UserWarning):
    """A warning of this project. Its own class lets a console tell it from the warnings of other packages."""


def printable(text: str) -> str:
    """A text on one line, whose other characters are those of a screen: a line break becomes backslash and n."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


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

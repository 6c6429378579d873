"""The one kind of error that a user's input causes, and how it is worded."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something the user gave is wrong: one line with the thing, the value received and the values allowed.

    The tools print it without a traceback and exit with status 2; as a library it is a ``ValueError``.
    """


def unknown(what: str, value: object, allowed: Iterable[str]) -> UserError:
    """The error for a name that is not one of ``allowed``; the nearest names come first.

    Args:
        what: what the name stands for, e.g. ``"arch"``.
        value: the name received.
        allowed: all valid names.
    """
    allowed = list(allowed)
    nearest = difflib.get_close_matches(str(value), allowed, n=3, cutoff=0.5)
    if nearest and len(allowed) > 12:
        hint = f"nearest: {', '.join(nearest)} ({len(allowed)} are known)"
    else:
        rest = [name for name in allowed if name not in nearest]
        hint = f"allowed: {', '.join(nearest + rest) or 'none'}"
    return UserError(f"unknown {what} {value!r}; {hint}")

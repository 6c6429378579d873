"""A run's config is formatted once. mmengine lets yapf format it for each reader: the log, the work dir, the trackers.

yapf takes about half a second for a detector's config, and gives the same answer for the same text.
"""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any

from yapf.yapflib import yapf_api

REMEMBERED = 8  # texts; a run has two, before and after mmengine has added its own keys


def format_configs_once() -> None:
    """Lets yapf's ``FormatCode``, which mmengine looks up at each call, remember its last answers."""
    if not hasattr(yapf_api.FormatCode, "__wrapped__"):
        yapf_api.FormatCode = remembering(yapf_api.FormatCode)


def remembering(format_code: Callable[..., Any]) -> Callable[..., Any]:
    """A form of ``format_code`` that computes equal calls once. Errors are not remembered."""
    options_of: dict[str, dict[str, Any]] = {}

    @lru_cache(maxsize=REMEMBERED)
    def answer(text: str, options: str) -> Any:
        return format_code(text, **options_of[options])

    @wraps(format_code)
    def formatted(text: str, **options: Any) -> Any:
        options_of[repr(options)] = options  # a dict cannot be a key
        return answer(text, repr(options))

    return formatted

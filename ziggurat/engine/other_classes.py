"""Whether the classes of a checkpoint are those of the data that it meets."""

from collections.abc import Sequence
from typing import Any

from backbones.errors import UserError, shorten
from ziggurat.engine.console import say_note
from ziggurat.engine.tasks import task_for


def tell_other_classes(
    cfg: Any, theirs: Sequence[str] | None, ours: Sequence[str] | None, source: str, exact: bool = False
) -> None:
    """Says that a checkpoint has other classes than the data, as many of them, where its head is loaded all the same.

    Nothing is said of another number of classes, and where one side has no names.

    Args:
        cfg: the run's config. Its task may have one word for several names of a class.
        theirs: class names of the checkpoint, in the order of the outputs; None if it does not tell.
        ours: class names of the data; None if they have none.
        source: the name of the checkpoint.
        exact: in testing and resuming. A class that both sides have then needs the same place.

    Raises:
        UserError: a class has another place.
    """
    if theirs is None or ours is None or len(theirs) != len(ours):
        return
    word = task_for(cfg).shown_name if cfg.get("custom_imports") else str
    theirs, ours = [word(str(name)) for name in theirs], [word(str(name)) for name in ours]
    apart = [i for i in range(len(ours)) if theirs[i] != ours[i]]
    if not apart:
        return
    first = f"its class {apart[0]} is {theirs[apart[0]]!r}, and the data's is {ours[apart[0]]!r}"
    if exact and {theirs[i] for i in apart} & {ours[i] for i in apart}:
        raise UserError(
            f"{source} has its classes in another order than the data: {first}; allowed: the same order, which "
            f"classes=[{shorten(theirs)}] of the config sets"
        )
    say_note(f"{source} is of other classes: {first}; its head is kept, and stands for the data's classes")

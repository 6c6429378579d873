"""How one source of checkpoints names a network."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class Names(NamedTuple):
    """Our names and theirs, module by module; a module stands for all tensors in it.

    Attributes:
        backbone: our module or parameter -> theirs, below their prefix.
        head: the same for the classifier's head, both names whole.
        prefixes: before their backbone names; the first is what we write.
        dead: tensors that their code saves and never uses.
        axes: our linear modules and 1x1 convolutions whose weight they store as the other -> its axes there, 4 or 2.
        computed: tensors that they store and we compute, by their whole name -> how to make them, float32.
        container: the entry of their files that holds the tensors; None where a file is the tensors.
    """

    backbone: dict[str, str]
    head: dict[str, str]
    prefixes: tuple[str, ...]
    dead: tuple[str, ...] = ()
    axes: dict[str, int] = {}
    computed: dict[str, Callable[[], Tensor]] = {}
    container: str | None = "state_dict"

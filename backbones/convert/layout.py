"""How one source of checkpoints names and shapes the tensors of a network."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class Layout(NamedTuple):
    """Our names and theirs, module by module. A module stands for all its tensors.

    Example of VAN's official files: our ``stem.conv`` is their ``patch_embed1.proj``, so our ``stem.conv.weight`` is
    their ``patch_embed1.proj.weight``.

    Attributes:
        backbone: our module or parameter -> theirs, without a prefix.
        head: the same for the classifier's head. Both names are whole.
        prefixes: the prefixes of backbone names in their files, such as ``"backbone."``. We write the first one.
        dead: tensors that their code saves and never uses.
        axes: modules stored as Linear in one layout and as 1x1 convolution in the other: our module -> number of axes
            of the weight in *their* file, 2 or 4.
        computed: tensors that their files store and our network computes: their whole name -> function that makes the
            tensor, float32.
        container: the entry of their files that holds the tensors. None if the file itself holds them.
    """

    backbone: dict[str, str]
    head: dict[str, str]
    prefixes: tuple[str, ...]
    dead: tuple[str, ...] = ()
    axes: dict[str, int] = {}
    computed: dict[str, Callable[[], Tensor]] = {}
    container: str | None = "state_dict"

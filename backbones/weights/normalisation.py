"""The normalisation that weights expect: from their row of the weights table, else their file, else their family."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from backbones.convert import family_word
from backbones.weights.own import read_own_meta
from backbones.weights.source import read_source
from backbones.weights.table import FAMILY_INPUT, IMAGENET, WEIGHTS, check_pretrained, name_of_file


class Statistics(NamedTuple):
    """Mean and standard deviation per channel of an image in 0..1, RGB where there are three.

    Attributes:
        mean: of each channel, in 0..1.
        std: of each channel, in 0..1.
        source: where the numbers come from, such as ``"of the weights van_b2.in1k"``.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str

    def __str__(self) -> str:
        mean, std = (", ".join(f"{value:.4g}" for value in values) for values in self[:2])
        return f"mean ({mean}), std ({std}), {self.source}"

    def for_channels(self, channels: int) -> "Statistics":
        """Statistics for an input of ``channels`` channels. Another number of channels gets the average in each."""
        if len(self.mean) == len(self.std) == channels:
            return self
        mean, std = (sum(values) / len(values) for values in (self.mean, self.std))
        source = f"{self.source}, averaged for {channels} channels"
        return Statistics((mean,) * channels, (std,) * channels, source)


def statistics(arch: str, pretrained: bool | str | Path | Mapping[str, Any] | None) -> Statistics:
    """The normalisation that goes with ``pretrained``.

    A published file is known by its file name, under any path or URL. A file is read once: the load that follows gets
    the content from here.

    Args:
        arch: the network's arch.
        pretrained: as for ``create_backbone``, or a state dict or checkpoint in memory.

    Raises:
        UserError: a file that is absent, unsafe or cut off, or a name of no weights.
    """
    if not isinstance(pretrained, Mapping):
        pretrained = check_pretrained(arch, pretrained)
        name = str(pretrained) if str(pretrained) in WEIGHTS else name_of_file(Path(pretrained or "").name)
        if name is not None and name.split(".")[0] == arch:
            return Statistics(*WEIGHTS[name].input, f"of the weights {name}")
    if pretrained is not None:
        where, content = read_source(arch, pretrained, ahead=True)
        own = read_own_meta(content)
        if own and own["mean"] and own["std"]:
            return Statistics(tuple(own["mean"]), tuple(own["std"]), f"of the run that wrote {where}")
    family = FAMILY_INPUT.get(family_word(arch))
    if family is None:
        return Statistics(*IMAGENET, f"of ImageNet, since nothing is published for the family of {arch}")
    return Statistics(*family, f"published for the family of {arch}")

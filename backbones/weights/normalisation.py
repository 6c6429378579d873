"""The normalisation that weights expect: from their row of the weights table, else their file, else their family."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from backbones.convert import family_word
from backbones.errors import UserError, shown, unknown
from backbones.weights.network import NETWORKS
from backbones.weights.own import read_own_meta
from backbones.weights.source import read_source
from backbones.weights.table import (
    FAMILY_EVALUATION,
    FAMILY_INPUT,
    IMAGENET,
    WEIGHTS,
    Evaluation,
    check_pretrained,
    published_name,
)


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
        """Statistics for an input of ``channels`` channels, by :func:`numbers_for`.

        Raises:
            UserError: there is neither one value for each channel, nor one for all, nor three for RGB.
        """
        if len(self.mean) == len(self.std) == channels:
            return self
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, 3, channels):
                raise wrong_numbers(name, values, channels, self.source)
        where = f"{channels} channels" if channels < 3 else "channels beyond the third"
        mean, std = numbers_for(self.mean, channels), numbers_for(self.std, channels)
        return Statistics(mean, std, f"{self.source}, averaged for {where}")


def numbers_for(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """A mean or std of RGB, or one number, for an input of ``channels`` channels.

    Of more channels than three, the first three keep those of RGB, as their weights do. The others get the average. So
    do channels that are fewer than three.
    """
    kept = tuple(values) if channels > 3 and len(values) == 3 else ()
    return kept + (sum(values) / len(values),) * (channels - len(kept))


def check_numbers(word: str, values: Any, channels: int | None = None, where: str = "") -> tuple[float, ...]:
    """The mean or std of each channel of an image in 0..1.

    Args:
        word: ``"mean"`` or ``"std"``.
        values: one number for each channel or one for all, as a list, a tuple, an array, a tensor or a number.
        channels: the number of channels. None takes any number of values.
        where: what ``values`` were found in, for the message.

    Returns:
        One number for each channel, or all ``values`` if ``channels`` is None.

    Raises:
        UserError: a mean is not in 0..1, a std is not above 0 and at most 1, or there are too many or too few numbers.
    """
    numbers = values.tolist() if hasattr(values, "tolist") else values
    numbers = list(numbers) if isinstance(numbers, Sequence) and not isinstance(numbers, str) else [numbers]
    if not numbers or not all(type(number) in (int, float) and 0 <= number <= 1 for number in numbers):
        raise wrong_numbers(word, values, channels, where)
    if (word == "std" and 0 in numbers) or (channels is not None and len(numbers) not in (1, channels)):
        raise wrong_numbers(word, values, channels, where)
    return tuple(map(float, numbers * channels if channels is not None and len(numbers) == 1 else numbers))


def wrong_numbers(word: str, values: Any, channels: int | None, where: str = "") -> UserError:
    many = "one number" if channels is None else "1 number" if channels == 1 else f"{channels} numbers"
    size = "above 0 and up to 1" if word == "std" else "from 0 to 1"
    each = "for each channel" if channels is None else "or one for all channels"
    values = shown(values)
    return UserError(f"{word}{where and f' {where}'} is {values}; allowed: {many} {each}, {size}, for images in 0..1")


def statistics(arch: str, pretrained: bool | str | Path | Mapping[str, Any] | None) -> Statistics:
    """The normalisation that goes with ``pretrained``.

    A published file is known by its file name, under any path or URL. A file is read once: the load that follows gets
    the content from here.

    Args:
        arch: the network's arch.
        pretrained: as for ``create_backbone``, or a state dict or checkpoint in memory.

    Raises:
        UserError: an unknown arch; a file that is absent, unsafe or cut off, or a name of no weights; or a file whose
            own mean or std cannot be right.
    """
    archs = [name for network in NETWORKS for name in getattr(network, "ARCHS", ())]
    if not isinstance(arch, str) or arch not in archs:
        raise unknown("arch", arch, archs)
    if not isinstance(pretrained, Mapping):
        pretrained = check_pretrained(arch, pretrained)
        name = published_name(arch, pretrained)
        if name is not None:
            return Statistics(*WEIGHTS[name].input, f"of the weights {name}")
    if pretrained is not None:
        where, content = read_source(arch, pretrained, ahead=True)
        own = read_own_meta(content)
        if own and own["mean"] is not None and own["std"] is not None:
            channels = (own["backbone"] or {}).get("in_chans")
            mean, std = (check_numbers(word, own[word], channels, f"in {where}") for word in ("mean", "std"))
            return Statistics(mean, std, f"of the run that wrote {where}")
    family = FAMILY_INPUT.get(family_word(arch))
    if family is None:
        return Statistics(*IMAGENET, f"of ImageNet, since nothing is published for the family of {arch}")
    return Statistics(*family, f"published for the family of {arch}")


def evaluation_of(arch: str, pretrained: str | Path) -> Evaluation:
    """How images are prepared to evaluate weights: as their authors do, else as most authors of the family do."""
    name = published_name(arch, pretrained)
    own = name and WEIGHTS[name].evaluation
    return own or FAMILY_EVALUATION.get(family_word(arch)) or Evaluation()

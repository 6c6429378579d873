"""The 1000 classes of ImageNet-1K, and what a synset of WordNet stands for, as timm lists them."""

from collections.abc import Sequence
from functools import cache

from timm.data import ImageNetInfo

from classification import class_maps


@cache
def synsets() -> tuple[str, ...]:
    """The WordNet ids of the classes, ``n01440764`` to ``n15075141``, in the order of a classifier's outputs."""
    return tuple(class_maps.synsets("imagenet"))


@cache
def descriptions() -> dict[str, str]:
    """What each WordNet id stands for: ``{"n01440764": "tench, Tinca tinca", ...}``."""
    return ImageNetInfo().label_descriptions(as_dict=True)


@cache
def all_descriptions() -> dict[str, str]:
    """As :func:`descriptions`, for all synsets that timm knows: those of ImageNet-22K too."""
    info = ImageNetInfo("imagenet22k")
    return {name: info.label_name_to_description(name, detailed=False) for name in info.label_names()} | descriptions()


def word_of(name: str) -> str:
    """The first word for a synset, such as "tench" for n01440764. Any other name stays as it is."""
    return all_descriptions().get(name, name).split(",")[0] if is_synset(name) else name


def is_synset(name: str) -> bool:
    """Whether a class's name is a WordNet id, such as n01440764."""
    return len(name) == 9 and name[0] == "n" and name[1:].isdecimal()


def are_imagenet(names: Sequence[str]) -> bool:
    """Whether class names are those of ImageNet-1K, in the order of a classifier's outputs.

    They may be WordNet ids, numbers from 0 to 999, or words. Lists of words differ in a few classes, such as the two
    cranes, so half of the words are enough.
    """
    wanted = synsets()
    names = [str(name) for name in names]
    if len(names) != len(wanted):
        return False
    if any(map(is_synset, names)):
        return names == list(wanted)
    if all(name.isdecimal() for name in names):
        return [int(name) for name in names] == list(range(len(names)))
    return 2 * sum(plain(name) in words_of(synset) for name, synset in zip(names, wanted, strict=True)) >= len(names)


def words_of(synset: str) -> set[str]:
    """All words for a synset of ImageNet-1K, and their list as one text."""
    text = descriptions()[synset]
    return {plain(text), *map(plain, text.split(","))}


def plain(text: str) -> str:
    """A class's name in one spelling: small letters and single blanks."""
    return " ".join(text.lower().replace("_", " ").replace(",", " ").split())

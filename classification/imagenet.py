"""The 1000 classes of ImageNet-1K, as timm lists them."""

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

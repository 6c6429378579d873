"""Finding a network's tensors in a checkpoint: the entry that holds them, and the prefix of their names."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from backbones.errors import UserError

# torch.compile, activation checkpointing and FSDP put these words into names, at any place.
WRAPPERS = re.compile(r"\b(?:_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module)\.")
AVERAGED = re.compile(r"(?:^|[._])(?:ema|teacher|averaged|swa|momentum)(?:[._]|$)")
MAX_DEPTH = 3  # levels of nested entries that are searched


class Found(NamedTuple):
    """One set of tensors in a checkpoint.

    Attributes:
        tensors: by name, without the prefix and without words of wrappers such as ``_orig_mod``.
        keys: the same names -> the names in the file.
        beside: names in the file of tensors in the same entry without the prefix.
        container: the entry that holds the tensors, e.g. ``"state_dict"``; empty if the file itself holds them.
        prefix: the beginning of their names in the file, e.g. ``"module."``.
        others: further sets of tensors for the network in this checkpoint, each by the word for ``which``.
    """

    tensors: dict[str, Tensor]
    keys: dict[str, str]
    beside: list[str]
    container: str = ""
    prefix: str = ""
    others: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Container and prefix in one word, e.g. ``"model_ema.module"``. ``which`` takes this word."""
        return place_of(self.container, self.prefix)


class Candidate(NamedTuple):
    container: str
    prefix: str
    keys: frozenset[str]  # of the tensors that the network knows


def find_tensors(
    content: Mapping[str, Any], known: Callable[[str], bool], which: str | None = None, prefix: str | None = None
) -> Found:
    """Finds a network's tensors in a checkpoint, in any entry and behind any prefix.

    The prefix is the one that most of the known names have. If a checkpoint holds averaged weights beside raw ones, the
    averaged ones are taken unless ``which`` says otherwise.

    Args:
        content: the checkpoint.
        known: says whether a name, without a prefix, may be a tensor of the network.
        which: ``"ema"`` (averaged weights, or a teacher), ``"raw"`` (the others), or the wanted entry or prefix, e.g.
            ``"student"``. None takes the averaged set if there is one.
        prefix: with a dot at its end, e.g. ``"backbone."``. Tensors of other names, in any entry, are left out. Names
            may have ``module.`` before the prefix.

    Raises:
        UserError: ``which`` or ``prefix`` names nothing in the checkpoint.
    """
    whole = dict(tensor_entries(content))
    entries = {path: {key: names[key] for key in names if has_prefix(key, prefix)} for path, names in whole.items()}
    candidates = [found for path, names in entries.items() for found in candidates_in(path, names, known)]
    if not candidates and prefix:
        raise UserError(f"prefix is {prefix!r}; allowed here: {prefixes_in(whole, known)}")
    if not candidates:
        path = next(iter(entries), "")
        tensors = entries.get(path, {})
        return Found(tensors, {name: name for name in tensors}, [], path)
    most = max(len(candidate.keys) for candidate in candidates)
    candidates = [candidate for candidate in candidates if 2 * len(candidate.keys) >= most]
    chosen = choose(candidates, which, swapped="message_hub" in content)
    others = [candidate for candidate in candidates if candidate is not chosen]
    elsewhere = {key for candidate in others if candidate.container == chosen.container for key in candidate.keys}
    tensors, keys, beside = {}, {}, []
    for key, value in whole[chosen.container].items():
        name = WRAPPERS.sub("", key)
        if key in entries[chosen.container] and name.startswith(chosen.prefix) and key not in elsewhere:
            tensors[name[len(chosen.prefix) :]], keys[name[len(chosen.prefix) :]] = value, key
        else:
            beside.append(key)
    return Found(tensors, keys, beside, *chosen[:2], tuple(place_of(*other[:2]) or "raw" for other in others))


def tensor_entries(content: Mapping[str, Any], path: str = "", depth: int = 0) -> Iterator[tuple[str, dict]]:
    """The path of every entry that holds tensors, such as ``"state_dict"``, and these tensors by name."""
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if tensors:
        yield path, tensors
    if depth < MAX_DEPTH:
        for key, value in content.items():
            if isinstance(key, str) and isinstance(value, Mapping):
                yield from tensor_entries(value, f"{path}.{key}" if path else key, depth + 1)


def has_prefix(key: str, prefix: str | None) -> bool:
    name = WRAPPERS.sub("", key)
    return prefix is None or name.startswith(prefix) or name.removeprefix("module.").startswith(prefix)


def prefixes_in(entries: Mapping[str, Mapping[str, Tensor]], known: Callable[[str], bool]) -> str:
    """The prefixes in a checkpoint that are followed by names of the network, in words."""
    votes: Counter[str] = Counter()
    for names in entries.values():
        for key in names:
            votes.update(prefixes_of(WRAPPERS.sub("", key), known))
    often = [found for found in votes if 2 * votes[found] >= max(votes.values())]
    return ", ".join(repr(found) if found else "none" for found in often) or "none, the network's names do not occur"


def candidates_in(path: str, names: Mapping[str, Tensor], known: Callable[[str], bool]) -> list[Candidate]:
    """The prefixes in one entry that are followed by names of the network, each with its keys."""
    votes: Counter[str] = Counter()
    for key in names:
        votes.update(prefixes_of(WRAPPERS.sub("", key), known))
    most = max(votes.values(), default=0)
    found = []
    for prefix in sorted((p for p in votes if 2 * votes[p] >= most), key=len):  # of equally good prefixes the shortest
        cleaned = ((key, WRAPPERS.sub("", key)) for key in names)
        keys = frozenset(key for key, name in cleaned if name.startswith(prefix) and known(name[len(prefix) :]))
        explained = [other for other in found if len(keys & other.keys) * 2 > len(keys)]
        if all(len(keys) > len(other.keys) for other in explained):
            found = [other for other in found if other not in explained]
            found.append(Candidate(path, prefix, keys))
    return found


def prefixes_of(name: str, known: Callable[[str], bool]) -> Iterator[str]:
    """Every prefix of a name, up to a dot, whose rest is a known name: "", "backbone.", "module.backbone.", ..."""
    start = 0
    while True:
        if known(name[start:]):
            yield name[:start]
        dot = name.find(".", start)
        if dot < 0:
            return
        start = dot + 1


def choose(candidates: list[Candidate], which: str | None, swapped: bool) -> Candidate:
    """The candidate that ``which`` asks for.

    Args:
        swapped: whether mmengine wrote the checkpoint. mmengine swaps the names: averaged weights are in
            ``state_dict``, raw ones in ``ema_state_dict``.
    """

    def is_averaged(candidate: Candidate) -> bool:
        if swapped and len(candidates) > 1:
            return candidate.container == "state_dict"
        return bool(AVERAGED.search(place_of(*candidate[:2])))

    averaged = [candidate for candidate in candidates if is_averaged(candidate)]
    raw = [candidate for candidate in candidates if not is_averaged(candidate)]
    if which is None:
        return max(averaged or raw, key=lambda candidate: len(candidate.keys))
    if which in ("ema", "raw"):
        fitting = averaged if which == "ema" else raw
    else:
        fitting = [c for c in candidates if which in (place_of(*c[:2]), c.container, c.prefix, c.prefix.rstrip("."))]
    if not fitting:
        places = [place_of(*candidate[:2]) for candidate in candidates]
        kinds = ["ema"] * bool(averaged) + ["raw"] * bool(raw)
        raise UserError(f"which is {which!r}; allowed here: {', '.join(filter(None, [*kinds, *places]))}")
    return fitting[0]


def place_of(container: str, prefix: str) -> str:
    return ".".join(filter(None, (container, prefix.rstrip("."))))

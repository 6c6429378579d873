"""What an exported file says of itself: the network, its input, its outputs, and who made it."""

import json
from typing import Any, NamedTuple

from backbones.checks import check_size
from backbones.errors import UserError
from backbones.export.program import IMAGE, SHOWN, Extent

KEY = "ziggurat"  # of ONNX metadata_props and of OpenVINO's rt_info
ENTRY = "ziggurat.json"  # in the archives of torch.export and TorchScript
INPUTS = ((IMAGE,), (IMAGE, SHOWN))  # of files


class Description(NamedTuple):
    """The description of an exported file. The file holds it, and a JSON file beside it repeats it.

    Attributes:
        kind: ``"backbone"``, whose outputs are maps, or the task of a whole model.
        arch: the backbone's arch.
        outputs: a name for each output. ``boxes, scores, labels`` and maybe ``masks`` are found objects of one image.
        size, batch, free, channels: see :class:`backbones.export.program.Extent`.
        dtype: the type of input and outputs, such as ``"float32"``.
        mean, std: of each channel of an image in 0..1. The input is normalised with them.
        statistics: where mean and std come from.
        weights: the name or path of the weights; None for random ones.
        out_indices: the stages of a backbone's maps.
        feature_info: channels and stride of each map.
        classes: the names of a whole model's classes.
        config: the part of a whole model's config that predicting needs, in JSON's types; empty if there is none.
        fused: whether norms are folded into convolutions.
        quantised: how weights and values became integers, such as ``"int8, 64 images"``; empty for floats.
        versions: of the packages that wrote the file.
        inputs: ``image``, and ``shown`` if the file takes the height and width of the image in its input, (2,).
    """

    kind: str
    arch: str
    outputs: tuple[str, ...]
    size: tuple[int, int]
    batch: int
    free: tuple[str, ...]
    channels: int
    dtype: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    statistics: str
    weights: str | None
    out_indices: tuple[int, ...] = ()
    feature_info: tuple[tuple[int, int], ...] = ()
    classes: tuple[str, ...] = ()
    config: dict[str, Any] = {}
    fused: bool = True
    quantised: str = ""
    versions: dict[str, str] = {}
    inputs: tuple[str, ...] = (IMAGE,)

    @property
    def extent(self) -> Extent:
        return Extent(tuple(self.size), self.batch, tuple(self.free), self.channels)

    def as_text(self) -> str:
        """The description as one line of JSON."""
        return json.dumps(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        return self._asdict() | {"input": "RGB, (value - mean) / std of values in 0..1, (B, C, H, W)"}

    def check(self, shape: tuple[int, ...]) -> None:
        """Raises UserError unless an input of this shape fits the file."""
        wanted = (self.batch, self.channels, *self.size)
        free = {0: "batch" in self.free, 2: "size" in self.free, 3: "size" in self.free}
        fits = len(shape) == 4 and all(free.get(i) or a == b for i, (a, b) in enumerate(zip(shape, wanted)))
        if not fits:
            names = ("B", "C", "H", "W")
            allowed = ", ".join(names[i] if free.get(i) else str(side) for i, side in enumerate(wanted))
            raise UserError(f"input has shape {tuple(shape)}; allowed: ({allowed}), as the file was exported")
        check_size("input", *shape[2:])


def description_in(text: str | bytes | None, path: Any) -> Description:
    """The description in an exported file.

    Args:
        text: what the file holds for it; None or empty if it holds none.
        path: the file, for messages.

    Raises:
        UserError: there is no description, or it is not one.
    """
    allowed = "allowed: a file that tools/export.py wrote"
    if not text:
        raise UserError(f"{path} does not say what it holds; {allowed}")
    try:
        content = json.loads(text)
        content = {name: content[name] for name in Description._fields if name in content}
        lists = {name: tuple(value) for name, value in content.items() if isinstance(value, list)}
        return well_formed(Description(**(content | lists)))
    except (ValueError, TypeError, KeyError):  # UserError is a ValueError
        raise UserError(f"{path} has a description that cannot be read; {allowed}") from None


def well_formed(found: Description) -> Description:
    """A description that a file holds; ValueError or TypeError if its values are of other kinds."""
    texts = (found.kind, found.arch, found.dtype, found.statistics, found.quantised, *found.outputs, *found.classes)
    numbers = (*found.mean, *found.std, *found.out_indices, *(value for row in found.feature_info for value in row))
    if found.inputs not in INPUTS:
        raise ValueError("an input is of another kind")
    kinds = [*(isinstance(text, str) for text in texts), *(isinstance(number, int | float) for number in numbers)]
    if not all(kinds) or not isinstance(found.config, dict) or any(len(row) != 2 for row in found.feature_info):
        raise ValueError("a value is of another kind")
    found.extent.check()
    return found

"""What the page's server keeps: images, networks and forward passes. One computation runs at a time."""

import io
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch.nn import functional as F

from backbones import FAMILIES, WEIGHTS, list_archs
from backbones.checks import MIN_SIZE, check_int
from backbones.errors import UserError, unknown
from backbones.pixels import picture as as_picture
from backbones.show import Look
from backbones.weights.fetch import is_fetched
from ziggurat.engine.explore import networks
from ziggurat.engine.explore.networks import Network, open_network
from ziggurat.engine.explore.pictures import UPLOAD, Pictures, thumbnail
from ziggurat.engine.explore.scene import DEFAULTS, Scene
from ziggurat.engine.explore.views import VIEWS, stages_of, views_of

SIZES = (MIN_SIZE, 1024)  # pixels of the shorter side of the network's input
MOST_PIXELS = 2 * 1024**2  # of the network's input
SIDE = 840  # pixels of a picture's longer side, at least
SIDES = (16, 1600)  # pixels of the longer side of a picture, if the page asks for a smaller one
FEW = 4  # networks, and forward passes, that are kept


class Pass(NamedTuple):
    """One image in one network.

    Attributes:
        look: the computation.
        base: the image in the size of the pictures, RGB.
        results: the whole model's result, once it is asked for.
    """

    look: Look
    base: Image.Image
    results: list[Any]


class Drawn(NamedTuple):
    """A picture for the page.

    Attributes:
        content: of a PNG file.
        name: under which it is saved.
        values: the least and the greatest of the values that its colours show; None for other pictures.
    """

    content: bytes
    name: str
    values: tuple[float, float] | None = None


class Recent:
    """The values of the last few keys."""

    def __init__(self, most: int):
        self.most, self.values = most, OrderedDict[Hashable, Any]()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The value of a key, which is made if it is not kept."""
        if key not in self.values:
            value = make()
            self.values[key] = value
        self.values.move_to_end(key)
        while len(self.values) > self.most:
            self.values.popitem(last=False)
        return self.values[key]


class Session:
    """Answers what the page asks for. Any thread may call the methods.

    Args:
        models: archs, weights and checkpoints of the command line. The page may open these and files of this machine.
        images: files of the command line.
        device: where to compute.
        size: pixels of the shorter side of the network's input, as the page first shows it.

    Raises:
        UserError: an image cannot be read, or the size is not allowed.
    """

    def __init__(self, models: list[str], images: list[Path], device: torch.device, size: int = 224):
        self.models, self.device, self.size = list(dict.fromkeys(models)), device, check_int("--size", size, *SIZES)
        self.pictures = Pictures(images)
        self.lock = threading.Lock()
        self.networks, self.passes = Recent(FEW), Recent(FEW)

    def open_models(self) -> None:
        """Opens what the command line names beside archs. UserError for the first that cannot be opened."""
        for model in self.models:
            if model not in list_archs():
                self.opened(model, networks.RANDOM)

    def choices(self) -> dict[str, Any]:
        """What the page's menus offer."""
        return {
            "models": self.models,
            "families": {family.__name__: list(family.ARCHS) for family in FAMILIES},
            "weights": [name for name in WEIGHTS if is_fetched(name)],
            "images": self.pictures.listed(),
            "size": self.size,
            "sizes": SIZES,
            "upload": UPLOAD,
        }

    def add_image(self, name: str, content: bytes) -> dict[str, str]:
        """Keeps an upload. UserError if it is no image that can be read."""
        with self.lock:
            return {"key": self.pictures.add(name, content), "name": name}

    def thumbnail(self, asked: dict[str, Any]) -> Drawn:
        """A small picture of an image, under its name."""
        with self.lock:
            picture = self.pictures[asked.get("image")]
            return Drawn(as_png(thumbnail(picture, 128)), picture.name)

    def facts(self, asked: dict[str, Any]) -> dict[str, Any]:
        """A network and what it computes for an image: its stages, its views, and the scores of a classifier."""
        with self.lock:
            network, found = self.computed(asked)
            backbone = network.backbone
            count = sum(parameter.numel() for parameter in backbone.parameters())
            return {
                "arch": backbone.arch,
                "family": type(backbone).__name__,
                "weights": network.weights,
                "parameters": count,
                "input": list(found.look.image.shape[1:]),
                "stages": stages_of(network, found.look),
                "views": views_of(network),
                "classes": scores_of(network, found.look),
            }

    def picture(self, asked: dict[str, Any]) -> Drawn:
        """A view's picture."""
        with self.lock:
            name = asked.get("view")
            if not isinstance(name, str) or name not in VIEWS:
                raise unknown("view", name, VIEWS)
            network, found = self.computed(asked)

            def result() -> tuple[Any, Any]:
                pixels = self.pictures[asked.get("image")].pixels(network.reading)
                if not found.results:
                    found.results.append(network.predictor(pixels))
                return found.results[0], pixels

            scene = Scene(network, found.look, found.base, DEFAULTS | asked, result)
            drawn = VIEWS[name].draw(scene)
            values = drawn.info.pop("range", None)
            side = asked.get("side")
            if side is not None:
                drawn.thumbnail((check_int("side", side, *SIDES),) * 2, Image.Resampling.BICUBIC)
            return Drawn(as_png(drawn), self.file_name(name, scene), values)

    def computed(self, asked: dict[str, Any]) -> tuple[Network, Pass]:
        """The network and the forward pass of a request."""
        size = check_int("size", asked.get("size", self.size), *SIZES)
        image, model, weights = asked.get("image"), asked.get("model"), asked.get("weights", networks.RANDOM)
        picture = self.pictures[image]
        if model not in self.models or weights != networks.RANDOM:
            networks.check_here(model, weights)
        key, network = self.opened(model, weights)
        return network, self.passes.get((*key, image, size), lambda: self.look(network, picture, size))

    def opened(self, model: str, weights: str) -> tuple[tuple, Network]:
        """A network, and its key, which changes when its file is written anew."""
        key = (model, weights, *map(networks.version_of, (model, weights)))
        return key, self.networks.get(key, lambda: open_network(model, weights, self.device))

    def look(self, network: Network, picture: Any, size: int) -> Pass:
        """The forward pass of an image whose shorter side gets ``size`` pixels."""
        pixels = picture.pixels(network.reading)
        height, width = pixels.shape[:2]
        scale = size / min(height, width)
        height, width = round(height * scale), round(width * scale)
        if height * width > MOST_PIXELS:
            seen = f"{picture.name} has sides of {pixels.shape[1]} and {pixels.shape[0]} pixels"
            raise UserError(f"{seen}, which size {size} makes {width}x{height}; allowed: {MOST_PIXELS:,} pixels")
        image = torch.tensor(pixels).permute(2, 0, 1)[None]
        image = F.interpolate(image, (height, width), mode="bicubic", antialias=True)
        given = (image.to(self.device).float() / 255 - network.mean) / network.std
        look = Look(network.backbone, given, whole=True)
        if not all(found.isfinite().all() for found in look.maps):
            raise UserError(f"{network.title} gives values that are not finite; allowed: weights of finite maps")
        large = max(1, SIDE / max(height, width))
        sides = round(width * large), round(height * large)
        return Pass(look, as_picture(pixels).resize(sides, Image.Resampling.BICUBIC), [])

    def file_name(self, view: str, scene: Scene) -> str:
        """``street_van_b2_stage2_likeness_row7_column7.png``: what a picture shows."""
        stem = Path(self.pictures[scene.asked["image"]].name).stem
        parts = [stem, scene.network.backbone.arch]
        if scene.network.weights != networks.RANDOM:
            parts.append(Path(scene.network.weights).stem)
        controls = VIEWS[view].controls
        parts += [f"stage{scene.stage}"] if "stage" in controls else []
        parts.append(view)
        parts += [f"{name}{scene.number(name)}" for name in ("block", "order", "head", "label") if name in controls]
        for control in ("channel", "channels"):
            if control in controls and scene.number(control) >= 0:
                parts.append(f"channel{scene.number(control)}")
        if "position" in controls:
            row, column = scene.place(scene.map.shape[1:])
            parts.append(f"row{row}_column{column}")
        return re.sub(r"[^\w.-]+", "-", "_".join(parts)) + ".png"


def scores_of(network: Network, look: Look) -> list[dict[str, Any]]:
    """The classes of a classifier, the best first, each with its index, name and score of 0 to 1."""
    if network.head is None:
        return []
    with torch.no_grad():
        scores = network.head(look.maps[-1][None])[0].float().softmax(0)
    values, labels = scores.sort(descending=True)
    return [
        {"label": label, "name": network.names[label], "score": round(value, 6)}
        for value, label in zip(values.tolist(), labels.tolist(), strict=True)
    ]


def as_png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=3)
    return file.getvalue()

"""The views of the page: which a network has at a stage, and their pictures."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from PIL import Image

from backbones.cam import EXACT, class_map
from backbones.checks import check_int
from backbones.errors import UserError
from backbones.gated_conv import GatedConv, GlobalLocalFilter
from backbones.graph_layers import Grapher
from backbones.show import Look, colours, heat, likeness, lines, strength
from backbones.van import LargeKernelAttention
from backbones.vvt import VicinityAttention
from ziggurat.engine.explore.networks import Network
from ziggurat.engine.explore.scene import Scene, marked, ranged, share


class View(NamedTuple):
    """One kind of picture.

    Attributes:
        title, help: for people.
        controls: what the page lets choose, beside the view.
        draw: makes the picture.
        part: the kind of module that a stage's blocks have, or None for every network.
    """

    title: str
    help: str
    controls: tuple[str, ...]
    draw: Callable[[Scene], Image.Image]
    part: type | None = None


def draw_channel(scene: Scene) -> Image.Image:
    number = check_int("channel", scene.asked["channel"], 0, len(scene.map) - 1)
    return scene.over(scene.map[number])


def draw_likeness(scene: Scene) -> Image.Image:
    shape = scene.map.shape[1:]
    place = scene.place(shape)
    return marked(scene.over(likeness(scene.map, *place)), place, shape)


def draw_neighbours(scene: Scene) -> Image.Image:
    shape = scene.map.shape[1:]
    place = scene.place(shape)
    return lines(scene.base, place, scene.look.neighbours(scene.stage, scene.number("block"), *place), shape)


def draw_attention(scene: Scene) -> Image.Image:
    return scene.over(scene.of_channel(scene.look.attention(scene.stage, scene.number("block")), strength))


def draw_gate(scene: Scene) -> Image.Image:
    gates = scene.look.gates(scene.stage, scene.number("block"))
    gate = gates[check_int("order", scene.asked["order"], 0, len(gates) - 1)]
    return scene.over(scene.of_channel(gate, strength))


def draw_filter(scene: Scene) -> Image.Image:
    magnitude = scene.of_channel(scene.look.filters(scene.stage, scene.number("block")), lambda values: values.mean(0))
    height, width = magnitude.shape
    scale = max(1, round(min(scene.base.height / height, scene.base.width / width)))
    values = magnitude.clamp_min(1e-12).log()
    return ranged(heat(values, (width * scale, height * scale)), values)


def draw_vicinity(scene: Scene) -> Image.Image:
    shape = scene.map.shape[1:]
    place, head = scene.place(shape), scene.number("head")
    found = scene.look.vicinity(scene.stage, scene.number("block"), *place, head=head)
    return marked(scene.over(found), place, shape)


def draw_class(scene: Scene) -> Image.Image:
    if scene.network.head is None:
        raise UserError(f"{scene.network.title} has no classes; allowed: views without classes")
    return scene.over(class_map(scene.network.head, scene.look.maps[-1], scene.number("label")))


def draw_prediction(scene: Scene) -> Image.Image:
    if not scene.network.draws:
        raise UserError(f"{scene.network.title} draws no predictions; allowed: detectors and segmenters")
    result, pixels = scene.result()
    if hasattr(result, "above"):
        result = result.above(share("score", scene.asked["score"]))
    drawn = scene.network.predictor.draw(pixels, result)
    drawn.thumbnail((1600, 1600), Image.Resampling.BICUBIC)
    return drawn


VIEWS = {
    "image": View("Image", "What the network is shown.", (), lambda scene: scene.base.copy()),
    "components": View(
        "Principal components",
        "The first three principal components of the stage's map as red, green and blue.",
        ("stage", "blend"),
        lambda scene: scene.blended(colours(scene.map, scene.base.size)),
    ),
    "strength": View(
        "Strength",
        "The size of the map's vectors: the root mean square over the channels.",
        ("stage", "blend"),
        lambda scene: scene.over(strength(scene.map)),
    ),
    "channel": View(
        "One channel",
        "The values of one channel of the map.",
        ("stage", "channel", "blend"),
        draw_channel,
    ),
    "likeness": View(
        "Likeness to a position",
        "The cosine similarity of each position to the one that you click.",
        ("stage", "position", "blend"),
        draw_likeness,
    ),
    "neighbours": View(
        "Graph neighbours",
        "The neighbours that the block's graph chooses for the node that you click.",
        ("stage", "block", "position"),
        draw_neighbours,
        Grapher,
    ),
    "attention": View(
        "Attention",
        "The factors that the large kernel gives: of all channels the root mean square.",
        ("stage", "block", "channels", "blend"),
        draw_attention,
        LargeKernelAttention,
    ),
    "gates": View(
        "Gates",
        "The gate of one of the block's recursive products: of all channels the root mean square.",
        ("stage", "block", "order", "channels", "blend"),
        draw_gate,
        GatedConv,
    ),
    "filters": View(
        "Global filters",
        "The block's filters by frequency, as logarithms of magnitudes. The lowest is at the left, halfway down.",
        ("stage", "block", "channels"),
        draw_filter,
        GlobalLocalFilter,
    ),
    "vicinity": View(
        "Vicinity attention",
        "How much each position counts for the one that you click, in one head.",
        ("stage", "block", "head", "position", "blend"),
        draw_vicinity,
        VicinityAttention,
    ),
    "class": View("Evidence for a class", "", ("label", "blend"), draw_class),
    "prediction": View(
        "Prediction", "What the whole model predicts for the image in its own size.", ("score",), draw_prediction
    ),
}
CAM = "How much each position speaks for the class. Its mean is the class's logit but for a constant."
GRAD_CAM = "Grad-CAM: the map's channels, weighted by the gradients of the class's logit."


def views_of(network: Network) -> list[dict[str, Any]]:
    """The views that a network has, for the page."""
    found = []
    for name, view in VIEWS.items():
        has = {"class": network.head is not None, "prediction": network.draws}.get(name, True)
        if not has or (view.part and not any(isinstance(m, view.part) for m in network.backbone.modules())):
            continue
        said = view.help or (CAM if isinstance(network.head, EXACT) else GRAD_CAM)
        controls = [control for control in view.controls if control != "score" or network.has_objects]
        found.append({"name": name, "title": view.title, "help": said, "controls": controls})
    return found


def stages_of(network: Network, look: Look) -> list[dict[str, Any]]:
    """For each stage its map's size, the number of its blocks, and the sizes that its controls need."""
    return [
        {
            "channels": len(found),
            "height": found.shape[1],
            "width": found.shape[2],
            "blocks": len(stage.blocks),
            "parts": parts_of(stage.blocks[0]),
        }
        for found, stage in zip(look.maps, network.backbone.stages, strict=True)
    ]


def parts_of(block: torch.nn.Module) -> dict[str, dict[str, Any]]:
    """Of each view that reads a part of the block: the number of channels, of each gate's channels, of heads."""
    parts: dict[str, dict[str, Any]] = {}
    for module in block.modules():
        if isinstance(module, Grapher):
            parts["neighbours"] = {}
        elif isinstance(module, LargeKernelAttention):
            parts["attention"] = {"channels": [module.pw.weight.shape[0]]}
        elif isinstance(module, GatedConv):
            parts["gates"] = {"channels": list(module.dims)}
        elif isinstance(module, VicinityAttention):
            parts["vicinity"] = {"heads": module.num_heads}
        if isinstance(module, GlobalLocalFilter):
            parts["filters"] = {"channels": [module.complex_weight.shape[0]]}
    return parts

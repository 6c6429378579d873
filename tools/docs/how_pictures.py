"""Draws docs/pictures/how_FAMILY.jpg, what a block of each family looks at, for docs/how_networks_work.md.

python tools/docs/how_pictures.py [--weights FOLDER]

The weights are random, of seed 0, unless FOLDER has ARCH.safetensors or ARCH.pth. The photograph is scikit-image's cat.
"""

import ziggurat.engine.start  # noqa: F401

from collections.abc import Callable
from pathlib import Path

import skimage.data
import torch
from PIL import Image

from backbones import FeatureExtractor
from backbones.show import Look, colours, heat, lines, strength
from ziggurat.engine.cli import Parser, run_tool

PICTURES = Path(__file__).resolve().parents[2] / "docs/pictures"
SIDE, GAP = 224, 8
EYE = (0.38, 0.19)  # row and column, as shares of the photograph
Panels = list[Image.Image]


def main() -> None:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", type=Path, metavar="FOLDER", help="has ARCH.safetensors or ARCH.pth of archs")
    folder = parser.parse_args().weights
    image = photograph()
    PICTURES.mkdir(exist_ok=True)
    for name, (arch, draw) in FAMILIES.items():
        torch.manual_seed(0)
        extractor = FeatureExtractor(arch, pretrained=weights_of(folder, arch))
        panels = draw(Look(extractor.net, extractor.prepare(image)[None]), image)
        side_by_side([image, *panels]).save(PICTURES / f"how_{name}.jpg", quality=92)


def photograph() -> Image.Image:
    """The face of a cat, 224x224."""
    return Image.fromarray(skimage.data.chelsea()).crop((112, 0, 412, 300)).resize((SIDE, SIDE))


def weights_of(folder: Path | None, arch: str) -> str | None:
    files = [] if folder is None else [folder / f"{arch}{suffix}" for suffix in (".safetensors", ".pth")]
    return next((str(file) for file in files if file.is_file()), None)


def side_by_side(panels: Panels) -> Image.Image:
    page = Image.new("RGB", (len(panels) * (SIDE + GAP) - GAP, SIDE), "white")
    for number, panel in enumerate(panels):
        page.paste(panel.resize((SIDE, SIDE), Image.Resampling.NEAREST), (number * (SIDE + GAP), 0))
    return page


def place(shape: tuple[int, int]) -> tuple[int, int]:
    """The row and column of the cat's eye on a map."""
    return int(EYE[0] * shape[0]), int(EYE[1] * shape[1])


def van(look: Look, image: Image.Image) -> Panels:
    """The factors of the large kernel in three stages, and the map of the second."""
    return [*(heat(strength(look.attention(stage, 0))) for stage in range(3)), colours(look.maps[1])]


def hornet(look: Look, image: Image.Image) -> Panels:
    """The gates of the second stage in their order, and the map."""
    return [*(heat(strength(gate)) for gate in look.gates(1, 0)), colours(look.maps[1])]


def neighbours(look: Look, image: Image.Image, *blocks: tuple[int, int]) -> Panels:
    panels = []
    for stage, block in blocks:
        shape = tuple(look.maps[stage].shape[1:])
        chosen = look.neighbours(stage, block, *place(shape))
        panels.append(lines(image, place(shape), chosen, shape))
    return panels


def pvig(look: Look, image: Image.Image) -> Panels:
    """The neighbours of the eye in the first block of each stage."""
    return neighbours(look, image, (0, 0), (1, 0), (2, 0), (3, 0))


def vig(look: Look, image: Image.Image) -> Panels:
    """The neighbours of the eye in blocks from the first to the last."""
    return neighbours(look, image, (0, 0), (1, 0), (2, 0), (3, 2))


def vvt(look: Look, image: Image.Image) -> Panels:
    """How much each position counts for the eye in two stages, and the maps."""
    weights = [look.vicinity(stage, 0, *place(tuple(look.maps[stage].shape[1:]))) for stage in (0, 1)]
    return [*map(heat, weights), colours(look.maps[0]), colours(look.maps[1])]


FAMILIES: dict[str, tuple[str, Callable[[Look, Image.Image], Panels]]] = {
    "van": ("van_b0", van),
    "hornet": ("hornet_tiny_7x7", hornet),
    "pvig": ("pvig_tiny", pvig),
    "vig": ("vig_tiny", vig),
    "vvt": ("vvt_tiny", vvt),
}


if __name__ == "__main__":
    run_tool(main)

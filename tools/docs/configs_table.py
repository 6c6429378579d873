"""Makes docs/configs.md: every config, with its network, head, schedule, published figure and recipe.

python tools/docs/configs_table.py [--write]

Without --write the page is printed. Network, head and schedule come from the completed configs, the recipe from the
comment at the top of a config, and figures from docs/results.json.
"""

import json
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

from mmengine.config import Config

from backbones.weights.table import first_name
from ziggurat.engine.cli import Parser, run_tool
from ziggurat.engine.config import load_config
from ziggurat.engine.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs/configs.md"
INTRODUCTION = """# Configs

Made by `python tools/docs/configs_table.py --write`. Each config is the whole run of one network with one head.

Another network takes one option, and its channels, statistics, weights, neck and output norms follow:
`--cfg-options model.backbone.arch=pvig_tiny`. All 27 archs fit into every config. `drop_path_rate`, the learning rate
and layer decay stay as the config has them, since they belong to the recipe. What a run then is, as one file to copy:
`python tools/print_config.py CONFIG --cfg-options model.backbone.arch=pvig_tiny`.

"Published" is the figure that the recipe's authors give for these weights: top-1 on ImageNet-1K, box AP or panoptic
quality on COCO val2017, or mIoU on ADE20K val at one scale / several scales. "-" means that none is published.
"""


def main() -> None:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="replace docs/configs.md")
    if parser.parse_args().write:
        PAGE.write_text(page())
    else:
        print(page(), end="")


def page(load: Callable[[Path], Config] = load_config) -> str:
    """The whole page.

    Args:
        load: reads a config.
    """
    results = json.loads((ROOT / "docs/results.json").read_text())
    sources: dict[str, int] = {}  # numbered in the order in which the tables mention them
    lines = [INTRODUCTION]
    for task in TASKS:
        lines += [f"## {task.capitalize()}\n", "| config | arch | head | schedule | published | recipe |"]
        lines.append("|:-|:-|:-|:-|:-|:-|")
        lines += [row(path, load(path), results, sources) for path in leaves(task)]
        lines.append("")
    lines += [f"<sup>{number}</sup> {source}<br>" for source, number in sources.items()]
    return "\n".join(lines) + "\n"


def leaves(task: str) -> list[Path]:
    """A task's configs that can be run, the demo's configs last."""
    found = [path for path in ROOT.glob(f"{task}/configs/*/*.py") if path.parent.name != "_base_"]
    return sorted(found, key=lambda path: (path.parent.name == "demo", path))


def row(path: Path, cfg: Config, results: dict[str, Any], sources: dict[str, int]) -> str:
    link = f"[{path.parent.name}/{path.stem}](../{path.relative_to(ROOT).as_posix()})"
    figure = "-" if path.parent.name == "demo" else published(cfg, results, sources)
    return f"| {link} | `{cfg.model.backbone.arch}` | {head_of(cfg)} | {schedule_of(cfg)} | {figure} | {header(path)} |"


def head_of(cfg: Config) -> str:
    """The method's name: of the detector, or of the segmenter's head."""
    head = (cfg.model.get("decode_head") or cfg.model).type
    names = {
        "MaskRCNN": "Mask R-CNN",
        "CascadeRCNN": "Cascade Mask R-CNN",
        "UPerHead": "UPerNet",
        "FPNHead": "Semantic FPN",
        "GNUPerHead": "UPerNet with a gated convolution",
        "LightHamHead": "Light-Ham",
        "HamHead": "HamNet",
        "Classifier": "linear",
        "Distiller": "a teacher's features",
    }
    return names.get(head, head)


def schedule_of(cfg: Config) -> str:
    loop = cfg.train_cfg
    return f"{loop.max_iters:,} iterations" if loop.get("max_iters") else f"{loop.max_epochs} epochs"


def published(cfg: Config, results: dict[str, Any], sources: dict[str, int]) -> str:
    """The figures for the config's weights, head and schedule, and the numbers of their sources."""
    weights = cfg.model.backbone.get("pretrained") or first_name(cfg.model.backbone.arch)
    name = head_of(cfg).lower().replace("-", "").replace(" ", "_")
    if name == "linear":
        if cfg.model.num_classes != 1000:  # a pretraining on more classes, of which no accuracy is published
            return "-"
        weights = cfg.model.backbone.get("pretrained") or f"{cfg.model.backbone.arch}.in1k"
        columns = ["top1_384" if cfg.test_dataloader.dataset.transform.input_size == 384 else "top1"]
    elif cfg.model.get("decode_head"):
        columns = [name, f"{name}_multi"]
    elif cfg.model.get("panoptic_head"):
        columns = [f"{name}_panoptic"]
    else:
        columns = [f"{name}_{cfg.train_cfg.max_epochs // 12}x"]
    figures = [results["weights"].get(weights, {}).get(column) for column in columns]
    if not any(figures):
        return "-"
    if figures[-1] is None:
        figures.pop()
    text = " / ".join(str(figure["value"]) if figure else "-" for figure in figures)
    notes = []
    for figure in filter(None, figures):
        note = results["notes"].get(figure.get("note"))
        notes.append(f"{results['sources'][figure['source']]}. {note or ''}".rstrip(". ") + ".")
    marks = ", ".join(str(sources.setdefault(note, len(sources) + 1)) for note in dict.fromkeys(notes))
    return f"{text} <sup>{marks}</sup>"


def header(path: Path) -> str:
    """The comment at the top of a config, on one line."""
    lines = takewhile(lambda line: line.startswith("#"), path.read_text().splitlines())
    return " ".join(line.removeprefix("# ") for line in lines)


if __name__ == "__main__":
    run_tool(main)

"""Makes docs/weights.md: every set of weights that loads by name.

python tools/docs/weights_table.py > docs/weights.md
"""

import json
from collections.abc import Sequence

from results_table import RESULTS, cell, parameters

from backbones import WEIGHTS
from backbones.weights import evaluation_of
from backbones.weights.table import HALF, IMAGENET, Terms, Weights
from ziggurat.engine.cli import Parser, run_tool
from ziggurat.engine.tasks import TASKS, task_named

PAGE = """# Weights

Made by `python tools/docs/weights_table.py`. `pretrained=` takes each name. `pretrained=True` takes the first name of
an arch. The first load by name downloads the file into PyTorch's hub cache and says once whose it is.

- **size**: parameters of the classifier with 1000 classes in millions, and what they take as float32.
- **top-1**: on ImageNet-1K in percent, as published. `docs/results.json` gives the sources.
- **statistics**: the normalisation that the weights were trained with, of RGB images in 0..1. `half`: mean and standard
  deviation {half}. `ImageNet`: mean {mean}, standard deviation {std}.
- **test**: how the authors test: side of the input in pixels, crop ratio. Images are resized by bicubic interpolation.
- **get it**: the addresses, tried in this order. Where only a browser can download a file, give the file's path.

`backbones.list_weights("van_b4*")` gives the names that match a pattern.
`backbones.weights.statistics(arch, pretrained)` gives mean, standard deviation and in words where they come from.

| weights | size | top-1 | statistics | test | licence | get it |
|:-|-:|-:|:-|:-|:-|:-|
{rows}

{notes}

Licences:

{licences}

## Detectors and segmenters

`tools/test.py` and `tools/predict.py` take each name in place of a checkpoint. It is the name of the config that the
weights were trained with; the config's header says whose recipe it is.

| model | licence | get it |
|:-|:-|:-|
{models}

## Other files

Any other file loads too: an official, mmpretrain, mmsegmentation or Hugging Face checkpoint, the checkpoint of any run
here, and another trainer's, whatever entry and prefix its tensors have. A published file keeps its row's statistics
under any path, as long as it keeps its name. A checkpoint of a run here says its own. For any other file the family's
are used.
"""


def main() -> None:
    Parser(description=__doc__.split("\n")[0]).parse_args()
    print(weights_page(), end="")


def weights_page() -> str:
    results = json.loads(RESULTS.read_text())
    numbers: dict[str, int] = {}  # of the notes, in the order in which the table mentions them
    models = {name: model for task in TASKS for name, model in task_named(task).published_models().items()}
    licences = list(dict.fromkeys(row.terms for row in (*WEIGHTS.values(), *models.values())))
    lines = []
    for name, row in WEIGHTS.items():
        millions = parameters(name.split(".")[0]) / 1e6
        cells = [
            f"`{name}`",
            f"{millions:.1f} M, {4 * millions:.0f} MB",
            cell(results["weights"][name], numbers, "top1"),
            {HALF: "half", IMAGENET: "ImageNet"}[row.input],
            tested(name),
            licence(row.terms, licences),
            addresses(row),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    notes = [f"<sup>{number}</sup> {results['notes'][note]}" for note, number in numbers.items()]
    licence_lines = [
        f"<sup>{letter}</sup> [{terms.origin}](https://github.com/{terms.origin}): {terms.licence.rstrip('.')}."
        for letter, terms in zip("abcdefgh", licences, strict=False)
    ]
    mean, std = (", ".join(map(str, values)) for values in IMAGENET)
    return PAGE.format(
        half=HALF.mean[0],
        mean=mean,
        std=std,
        rows="\n".join(lines),
        notes="<br>\n".join(notes),
        licences="<br>\n".join(licence_lines),
        models="\n".join(
            f"| `{name}` | {licence(model.terms, licences)} | {links(model.urls)} |" for name, model in models.items()
        ),
    )


def tested(name: str) -> str:
    """Side and crop ratio of a test with these weights."""
    how = evaluation_of(name.split(".")[0], name)
    return f"{how.input_size}, {how.crop_pct:g}" if how.crop_mode == "center" else f"{how.input_size}, whole image"


def addresses(row: Weights) -> str:
    """Links to the file and its mirrors, or to the page where a browser gets the file."""
    return links(row.urls) or f"[in a browser]({row.page})"


def links(urls: Sequence[str]) -> str:
    words = ["file", *(["mirror"] * len(urls))]
    return ", ".join(f"[{word}]({url})" for word, url in zip(words, urls))


def licence(terms: Terms, licences: list[Terms]) -> str:
    """The licence's name, and the letter of its line below the table."""
    return f"{terms.licence.split(',')[0].split(';')[0]} <sup>{'abcdefgh'[licences.index(terms)]}</sup>"


if __name__ == "__main__":
    run_tool(main)

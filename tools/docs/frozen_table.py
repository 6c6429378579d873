"""Makes docs/frozen.md: nearest neighbours and linear probes on frozen features, from the results in docs/frozen/.

python tools/docs/frozen_table.py [--write]

Without --write the page is printed. The results are files of tools/knn.py and tools/linear_probe.py.
"""

import json
from pathlib import Path
from typing import Any

from ziggurat.engine.cli import Parser, run_tool

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs/frozen.md"
RESULTS = ROOT / "docs/frozen"
INTRODUCTION = """# Frozen features

Made by `python tools/docs/frozen_table.py --write`. The backbone is not trained here: its maps are pooled to one vector
for each image. The figures are top-1 in percent on the val images.

- **kNN**: the 10, 20, 100 or 200 nearest training images vote, with weight exp(cosine similarity / 0.07).
- **probe**: the linear classifier that is best on a held-out tenth of train, and its learning rate. The other nine
  tenths train it. Features are standardised.
- **logistic**: scikit-learn's logistic regression on the same nine tenths, as a check of the probe.
- **features**: the stages whose maps are pooled, how, and the length of the vector. GeM is the generalised mean.

The weights `epoch_4.pth` are those of the demo's pretraining on the same digits: `make demo` makes them and the data.
Random weights show what the shape of a network gives without training. Small differences are noise: with 720 images,
one percent is 7 images.

The rows come from these commands, with other weights and options:

```
python tools/knn.py van_b0 classification/configs/demo/van_b0_digits.py --stages 2,3 --out results.json
python tools/linear_probe.py van_b0 classification/configs/demo/van_b0_digits.py --stages 2,3 --check --out results.json
```
"""


def main() -> None:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="replace docs/frozen.md")
    if parser.parse_args().write:
        PAGE.write_text(page())
    else:
        print(page(), end="")


def page() -> str:
    """One row for each set of features, from its result of tools/knn.py and that of tools/linear_probe.py."""
    pairs = [
        (json.loads(path.read_text()), json.loads(path.with_name(f"{stem}.probe.json").read_text()))
        for path in sorted(RESULTS.glob("*.knn.json"))
        for stem in [path.name.removesuffix(".knn.json")]
    ]
    ks = [row["k"] for row in pairs[0][0]["results"]]
    header = ["network", "weights", "features", "images", *(f"kNN {k}" for k in ks), "probe", "rate", "logistic"]
    lines = [INTRODUCTION, f"| {' | '.join(header)} |", f"|:-|:-|:-|:-{'|-:' * (len(header) - 4)}|"]
    lines += [f"| {' | '.join(cells(knn, probe))} |" for knn, probe in sorted(pairs, key=order)]
    return "\n".join(lines) + "\n"


def order(pair: tuple[dict[str, Any], dict[str, Any]]) -> tuple[Any, ...]:
    meta = pair[0]["features"]
    return meta["arch"], not meta["weights"].startswith("random"), meta["pool"] != "mean", -len(meta["stages"])


def cells(knn: dict[str, Any], probe: dict[str, Any]) -> list[str]:
    """The cells of one row. Both results must be of the same features."""
    meta = knn["features"]
    if meta != probe["features"]:
        raise ValueError(f"results of kNN and probe are of other features: {meta['weights']}, {meta['stages']}")
    pool = {"mean": "mean", "gem": "GeM"}[meta["pool"]]
    size, best = meta["transform"]["input_size"], probe["best"]
    return [
        meta["arch"],
        meta["weights"] if meta["weights"].startswith("random") else f"`{Path(meta['weights']).name}`",
        f"stage{'s' * (len(meta['stages']) > 1)} {', '.join(map(str, meta['stages']))}, {pool}, {meta['width']}",
        f"{' + '.join(str(split['images']) for split in meta['splits'].values())} at {size} pixels",
        *(f"{row['top1']:.1f}" for row in knn["results"]),
        f"{best['top1']:.1f}",
        f"{best['rate']:g}",
        f"{probe['logistic_regression']['top1']:.1f}",
    ]


if __name__ == "__main__":
    run_tool(main)

"""Makes docs/exports.md: how networks are exported, and what became of each arch in each format.

python tools/docs/exports_table.py [--write]

Without --write the page is printed. The figures are those of tools/bench/benchmark_exports.py.
"""

import json
from pathlib import Path
from typing import Any

from backbones import list_archs
from backbones.export import FORMATS
from backbones.export.errors import OF_OWN, TOLERANCES
from ziggurat.engine.cli import Parser, run_tool

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs/exports.md"
RESULTS = ROOT / "docs/benchmarks/exports/cpu.json"
INTRODUCTION = """# Exports

Made by `python tools/docs/exports_table.py --write`. The command `export` writes a network as a file for other
programs: ONNX, OpenVINO IR, torch.export (`.pt2`) and TorchScript.

```
pip install "ziggurat-vision[export]"                            # ONNX, ONNX Runtime and OpenVINO
ziggurat export van_b2.in1k --format onnx openvino               # published weights: the whole classifier
ziggurat export work_dirs/my_run/epoch_12.pth --format onnx      # a checkpoint of yours: a classifier or a segmenter
ziggurat export van_b2 --pretrained van_b2.in1k --format onnx    # an arch: its backbone, four maps
ziggurat export work_dirs/my_run/epoch_12.pth --backbone         # the backbone of any checkpoint, a detector's too
ziggurat export van_b2 --format onnx --dynamic                   # free batch and size; --dynamic batch frees one
ziggurat export van_b2 --format onnx --size 480 640 --batch 4    # one size and one batch
```

Each file is run in its runtime on real photographs beside PyTorch. A file with free axes is run on three sizes. A file
is kept only if it gives the same values. Otherwise one line says what differs, and the exit status is 2. The errors are
shares of the largest value of PyTorch's output: the largest difference may be {largest:g}, and the mean {mean:g}. Two
neighbours in a graph network (`vig`, `pvig`) that are equally near may change places by rounding. So single values of
these networks may differ, and their mean error may be {times} times that of PyTorch beside float64.

The same call as of the network runs a file:

```
from backbones.export import Exported

net = Exported("work_dirs/export/van_b2.onnx")  # or .xml, .pt2, .torchscript
maps = net(images)  # images (B, 3, H, W), normalised with net.description.mean and net.description.std
```

The input is RGB. Values in 0..1 have mean and std taken off first. A file holds mean, std, arch, sizes, class names and
versions: ONNX in its `metadata_props`, OpenVINO in `rt_info`, the other two in an entry of the archive. A JSON file
beside it repeats them: van_b2.onnx has van_b2.onnx.json. The outputs of a backbone are `stage0` to `stage3`. The
output of a classifier or a segmenter is `scores`, before softmax; that of a segmenter has a quarter of the image's
size.

- **Free sizes.** `--dynamic` frees batch, height and width. TorchScript keeps the size that it was traced with. A graph
  network with free sizes holds all similarities of a map at a time: memory grows with the square of the positions.
- **Fixed sizes.** Tables of positions and of the Fourier transform are constants of the file, computed in float64.
  The global filters of HorNet are matrix products in all files, since runtimes lack the FFT.
- **Half precision.** `--dtype float16` writes such weights; CPU runtimes are slow with them. OpenVINO files are read in
  float32 by `Exported`, on processors with bfloat16 units too.
- **TensorRT** reads the ONNX file: `trtexec --onnx=van_b2.onnx --saveEngine=van_b2.engine --fp16`. A file with free
  axes needs `--minShapes=image:1x3x224x224 --optShapes=image:8x3x224x224 --maxShapes=image:16x3x640x640`. This recipe
  and the next were not run here.
- **CoreML** reads the `.pt2` file of fixed sizes in Python, with coremltools:
  `coremltools.convert(torch.export.load("van_b2.pt2").run_decompositions({{}}))`.

## What was measured

Backbones with random weights, whose norms and scales are moved as by a training. A cell has the largest error and the
mean error, and how many times faster than PyTorch the runtime is. A dash was not measured. "blocks" is the number of
blocks of a stage at most: most networks were cut short, since exporting takes minutes.
{machine}

In a deep graph network of random weights, one changed neighbour changes much of what follows. So rounding alone gives
the errors of `vig_tiny` with all its blocks: PyTorch in float32 is off float64 by the same order of magnitude. The
`.pt2` file, which computes the same operations, is equal.

The rows come from `python tools/bench/benchmark_exports.py --blocks 1 --out docs/benchmarks/exports/cpu.json`.
"""


def main() -> None:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="replace docs/exports.md")
    if parser.parse_args().write:
        PAGE.write_text(page())
    else:
        print(page(), end="")


def page() -> str:
    report = json.loads(RESULTS.read_text())
    of, size = report["machine"], report["export"]["size"]
    packages = ", ".join(f"{name} {of[name]}" for name in ("torch", "onnxruntime", "openvino", "onnx", "onnxscript"))
    machine = f"Measured on: {of['device']}, {of['threads']} threads; {packages}; images of {size}x{size} pixels."
    text = INTRODUCTION.format(**TOLERANCES["float32"]._asdict(), times=OF_OWN, machine=machine)
    reasons: list[str] = []
    fixed = table(report["rows"], "fixed", list(FORMATS), reasons)
    free = table(report["rows"], "free", [name for name in FORMATS if not FORMATS[name].is_fixed], reasons)
    notes = "".join(f"\n({i}) {reason}\n" for i, reason in enumerate(reasons, 1))
    return f"{text}\n### One size, one image\n\n{fixed}\n### Free batch and size\n\n{free}{notes}"


def table(rows: list[dict[str, Any]], extent: str, formats: list[str], reasons: list[str]) -> str:
    """A row for each measured arch. What stopped a format is added to ``reasons``, and the cell has its number."""
    found = {(row["arch"], row["format"]): row for row in rows if row["extent"] == extent}
    titles = [f"{name}, {FORMATS[name].runtime}" for name in formats]
    lines = [f"| arch | blocks | {' | '.join(titles)} |", f"{'|:-' * (len(formats) + 2)}|"]
    for arch in list_archs():
        of_arch = [row for row in rows if row["arch"] == arch and row["extent"] == extent]
        if of_arch:
            blocks = of_arch[0]["blocks"]
            cells = [cell(found.get((arch, name)) or found.get((arch, None)), reasons) for name in formats]
            lines.append(f"| {arch} | {blocks or 'all'} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def cell(row: dict[str, Any] | None, reasons: list[str]) -> str:
    if row is None:
        return "-"
    if row["refused"]:
        if row["refused"] not in reasons:
            reasons.append(row["refused"])
        return f"refused ({reasons.index(row['refused']) + 1})"
    return f"{row['max_error']:.0e}, {row['mean_error']:.0e}, {row['ratio']:.2f}x"


if __name__ == "__main__":
    run_tool(main)

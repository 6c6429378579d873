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
from backbones.export.runtimes import KEPT
from ziggurat.engine.cli import Parser, run_tool
from ziggurat.engine.int8 import AGREEMENT

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs/exports.md"
RESULTS = ROOT / "docs/benchmarks/exports/cpu.json"
INT8 = ROOT / "docs/benchmarks/exports/int8.json"
DETECTORS = ROOT / "docs/benchmarks/exports/detectors_cpu.json"
WHOLE = ROOT / "docs/benchmarks/exports/runtimes_cpu.json"
FORMS = ROOT / "docs/benchmarks/exports/block_forms_cpu.json"
INTRODUCTION = """# Exports

Made by `python tools/docs/exports_table.py --write`. The command `export` writes a network as a file for other
programs: ONNX, OpenVINO IR, torch.export (`.pt2`) and TorchScript.

```
pip install "ziggurat-vision[export]"                            # ONNX, ONNX Runtime and OpenVINO
ziggurat export van_b2.in1k --format onnx openvino               # published weights: the whole classifier
ziggurat export work_dirs/my_run/epoch_12.pth --format onnx      # a checkpoint of yours, of any task
ziggurat export van_b2 --pretrained van_b2.in1k --format onnx    # an arch: its backbone, four maps
ziggurat export work_dirs/my_run/epoch_12.pth --backbone         # the backbone of any checkpoint
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

## Predicting with an exported file

A file of a whole model holds the part of its config that predicting needs. So the file predicts alone, with the same
results as its checkpoint:

```
ziggurat predict work_dirs/export/epoch_12.onnx photos/          # a file, by its own runtime
ziggurat predict epoch_12.pth photos/ --runtime onnxruntime      # a checkpoint or published weights: exported first
ziggurat features work_dirs/export/van_b2.onnx photos/           # a backbone; or weights with --runtime openvino
```

```
from backbones import FeatureExtractor
from ziggurat.engine import Predictor

found = Predictor("work_dirs/export/epoch_12.onnx")("street.jpg")
found = Predictor("epoch_12.pth", runtime="onnxruntime")("street.jpg")
maps = FeatureExtractor("van_b2", pretrained="van_b2.in1k", runtime="openvino")("street.jpg")
```

- **Sizes.** With `runtime` one export takes all sizes of images. It is made when the predictor is built, in tens of
  seconds for a detector. Classifiers resize images to one size anyway. Where a network cannot be recorded for free
  sizes, each new size of preprocessed images is exported, and the last {kept} sizes are kept.
- **Files of one size.** `--dynamic` makes a file for all sizes, and results are those of the checkpoint. Without it the
  file of a whole model has larger images resized to fit, and pads smaller ones at the right and at the bottom. A note
  says so, and results are others than those of the checkpoint. By default the file has the size that the test pipeline
  makes at most. A backbone's file of one size refuses other sizes.
- **Batches.** A file for one image computes image by image, whatever `batch_size` is. `--dynamic batch` frees it.
- **What PyTorch alone does.** Segmenters with windows (`test_cfg.mode` is `slide`, or `tile`) or with `tta`.
- **Files from others.** The config in a file is read like that of a checkpoint: registered names, no path, no code. But
  PyTorch runs `.pt2` and `.torchscript` as programs. `--safe` and `ZIGGURAT_SAFE=1` take `.onnx` and `.xml` alone.

## What a file holds

The input is RGB. Values in 0..1 have mean and std taken off first. A file holds mean, std, arch, sizes, class names and
versions: ONNX in its `metadata_props`, OpenVINO in `rt_info`, the other two in an entry of the archive. A JSON file
beside it repeats them: van_b2.onnx has van_b2.onnx.json. The outputs of a backbone are `stage0` to `stage3`. The
output of a classifier or a segmenter is `scores`, before softmax; that of a segmenter has a quarter of the image's
size. The outputs of a detector are [found objects](#detectors).

- **Free sizes.** `--dynamic` frees batch, height and width: of a detector, which takes one image, the size, and of a
  classifier the batch. TorchScript keeps the size that it was traced with. A `.pt2` file has a least size, at which the
  coarsest map has two rows: 33 pixels for most backbones, 129 for a detector with maps of stride 128. The file of a
  graph network takes images whose coarsest map has as many positions as a node has neighbours. It holds all
  similarities of a map at a time: memory grows with the square of the positions.
- **Fixed sizes.** Tables of positions and of the Fourier transform are constants of the file, computed in float64.
  The global filters of HorNet are matrix products in all files, since runtimes lack the FFT.
- **Half precision.** `--dtype float16` writes such weights, of a detector only with `--backbone`. CPU runtimes are slow
  with them. OpenVINO files are read in float32 by `Exported`, on processors with bfloat16 units too.
- **8-bit integers** are [below](#8-bit-integers).
- **TensorRT** reads the ONNX file: `trtexec --onnx=van_b2.onnx --saveEngine=van_b2.engine --fp16`. A file with free
  axes needs `--minShapes=image:1x3x224x224 --optShapes=image:8x3x224x224 --maxShapes=image:16x3x640x640`. This recipe
  was not run here.
- **CoreML** converts a record of fixed sizes with coremltools. Two operators are written out for it before. With
  coremltools 9.0, `van_b0`, `hornet_tiny_7x7`, `hornet_tiny_gf`, `pvig_tiny`, `vig_tiny` and `vvt_tiny` were
  converted; Apple's runtime was not at hand:

```
import coremltools, torch

table = torch.export.default_decompositions()
table[torch.ops.aten.addcmul.default] = lambda x, a, b, value=1: x + value * a * b
table[torch.ops.aten.alias.default] = lambda x: x.view(x.shape)
program = torch.export.load("van_b2.pt2").run_decompositions(table)
coremltools.convert(program, minimum_deployment_target=coremltools.target.iOS17).save("van_b2.mlpackage")
```

## 8-bit integers

```
ziggurat export epoch_12.pth --format onnx --int8 --calibration data/train    # also writes epoch_12.int8.onnx
```

ONNX Runtime rounds the weights and the inputs of convolutions and linear layers to 8 bits, in steps that fit the values
seen on the images of `--calibration`. Take images like those of later predictions, such as 128 of the training. They
are prepared as for predictions. Less than a third of the file's size is left. Products of two values stay in float32,
such as the distances by which a graph network chooses neighbours. So do the Fourier transforms of HorNet. Weights use 7
of the 8 bits, so that sums do not overflow on processors without VNNI. PyTorch's own dynamic quantisation finds nothing
to do: the networks have 1x1 convolutions in place of linear layers.

One image of four is not used for the calibration. On these images the copy is compared with PyTorch. It is kept if the
share of equal best classes is {agreement:g} or more: over images for a classifier, over places for a segmenter. For a
backbone this is the mean cosine between maps. Measure the accuracy on your own test images before you rely on a copy.

{int8}

The demo's models, trained on its data, were tested on all its test images. The rows come from
`python tools/bench/benchmark_int8.py CONFIG CHECKPOINT --calibration IMAGES --out docs/benchmarks/exports/int8.json`.

## Detectors

```
ziggurat export work_dirs/my_run/epoch_12.pth --format onnx --dynamic           # images of all sizes
ziggurat export work_dirs/my_run/epoch_12.pth --format onnx --size 800 1280     # of one
```

A detector's file takes one image. It gives the objects after suppression: N rows, the best first. N is
`max_per_img` of the config's `test_cfg`. Rows that hold no object have score 0, and zeros elsewhere.

| input | shape | what |
|:-|:-|:-|
| `image` | (1, 3, H, W) | RGB, normalised |
| `shown` | (2,), float32 | height and width of the image in the input, in pixels; not of DINO and Deformable DETR |

| output | shape | what |
|:-|:-|:-|
| `boxes` | (N, 4) | x1, y1, x2, y2 in pixels of the network's input |
| `scores` | (N,) | 0 to 1, by the config's `score_thr` |
| `labels` | (N,), int64 | places in `description.classes` |
| `masks` | (N, 28, 28) | 0 to 1, within the boxes; only of detectors with a mask head |

These detectors are exported: dense heads that choose objects by mmdet's common rules (RetinaHead, ATSSHead, GFLHead,
FCOSHead, RTMDetHead); Faster, Mask and Cascade R-CNN; Deformable DETR and DINO. One line refuses another head, and
names it. Suppression is plain `nms`.

An image that is smaller than the input lies at its top left, and `shown` is its height and width: with `Exported` the
call is `net(image, (600, 900))`. Zeros of normalised values fill the rest. As in mmdet, boxes are clipped to `shown`
before suppression. An image that fills the input has H and W as `shown`. RTMDet's configs fill with grey of 114 and
count the filling as part of the image, so `shown` is H and W there, too. The objects are those that mmdet finds with
as much filling. The network sees the filling, so other amounts give other objects: export with `--dynamic`, or for the
size of the images.
DINO and Deformable DETR take images that fill the input: in mmdet their attention leaves the filling out, and a file
cannot tell the filling from the image.

What remains is to bring boxes and masks to the image's own pixels. In NumPy:

```
{post_processing}```

The check compares sets of objects. Each object of PyTorch takes the nearest object of the file with the same label. The
two may be {largest:g} apart, in boxes as shares of the image's side, and in scores. At most {missed:.0%} of the objects
may have no partner, since rounding can change the order of nearly equal scores. The tolerance of a detector that is not
within these limits has {times} times the errors that PyTorch has beside float64 added. Where PyTorch finds no object in
the photographs, a line says that nothing was compared. `--cfg-options model.test_cfg.score_thr=0` (of an R-CNN
`model.test_cfg.rcnn.score_thr=0`) gives objects of all scores.

- **PyTorch's files** have operators of torchvision. A program that loads one without `Exported` runs `import
  torchvision` first.
- **OpenVINO's files** of detectors are made from ONNX, except those of DINO and Deformable DETR. This needs the
  packages of both formats.
- **TensorRT** 10 has the operators of the ONNX file, such as NonMaxSuppression, RoiAlign, GridSample and ScatterND. Its
  TopK takes 3840 rows at most. RTMDet's config asks for 30000, so export with `--cfg-options
  model.test_cfg.nms_pre=1000`. Half precision moves boxes and scores, and so changes what is suppressed: without
  `--fp16` the objects stay the same. This was not run here.

## What was measured

Backbones with random weights, whose biases and scales are moved as by a training, and whose norms have the statistics
of photographs. A cell has the largest error and the mean error, and how many times faster than PyTorch the runtime is.
A dash was not measured.
{machine}

In a deep graph network of random weights, one changed neighbour changes much of what follows. So rounding alone gives
errors of some hundredths of the largest value: PyTorch in float32 is off float64 by as much, for the photograph or for
one that is rounded otherwise. The `.pt2` file of one size, which computes the same operations, is equal.

The rows come from `python tools/bench/benchmark_exports.py --out docs/benchmarks/exports/cpu.json`. PyTorch runs the
network with norms folded into convolutions, as the file has them.

**What the runtimes do better.** They compute GELU and products with a gate inside a convolution, and keep maps in the
convolutions' own layout. PyTorch has no public operator for the former. The latter is public in two forms: tensors of
oneDNN's own layout, and frozen TorchScript. Both are slower than the blocks of VAN as they are, but for frozen script
on the smallest maps of a single image. A cell has how many times faster than the block a form is, {forms_about}:

{forms}

The rows come from `python tools/bench/benchmark_block_forms.py --out docs/benchmarks/exports/block_forms_cpu.json`.
"""


OBJECTS = """
### Detectors

With random weights, whose heads are scaled so that there are objects of many scores, on {size}x{size} pixels. A cell
has the share of the objects that both find, the largest error of boxes (of the image's side), scores and masks, and how
many times faster than PyTorch the runtime is. Queries of random weights have nearly equal scores, so rounding changes
the order of some of DINO's.
{machine}

The rows come from `python tools/bench/benchmark_detector_exports.py --out docs/benchmarks/exports/detectors_cpu.json`.

"""
MODELS = """
### Whole models

The demo's trained models on a photograph: milliseconds of the network and of the steps after it, and how many times
faster than PyTorch. "folded" has norms folded into convolutions.
{machine}

{table}

The rows come from `python tools/bench/benchmark_runtimes.py MODEL ... --out docs/benchmarks/exports/runtimes_cpu.json`,
which times models of yours, too.
"""
POST_PROCESSING = """import numpy as np

def objects(boxes, scores, labels, masks, ratio, height, width):
    # the outputs for an image of height and width, which was made ratio times as large for the network
    found = scores > 0
    boxes = np.clip(boxes[found] / ratio, 0, [width, height, width, height])
    masks = [
        hats(height, y1, y2) @ np.pad(mask, 1) @ hats(width, x1, x2).T >= 0.5
        for (x1, y1, x2, y2), mask in zip(boxes, masks[found])
    ]
    return boxes, scores[found], labels[found], masks

def hats(pixels, low, high):
    # bilinear weights of a mask's 28 rows or columns, and of a border of zeros, for each pixel of the image
    place = (np.arange(pixels) + 0.5 - low) / max(high - low, 1e-6) * 28 - 0.5
    return np.maximum(0, 1 - np.abs(np.clip(place, -1, 28)[:, None] - np.arange(-1, 29)))
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
    size = report["export"]["size"]
    machine = f"{machine_of(report)}; images of {size}x{size} pixels."
    figures = dict(times=OF_OWN, machine=machine, kept=KEPT, agreement=AGREEMENT, int8=int8_table(), **block_forms())
    text = INTRODUCTION.format(**TOLERANCES["float32"]._asdict(), **figures, post_processing=POST_PROCESSING)
    reasons: list[str] = []
    fixed = table(report["rows"], "fixed", list(FORMATS), reasons)
    not_fixed = [name for name in FORMATS if not FORMATS[name].is_fixed]
    free = table(report["rows"], "free", not_fixed, reasons)
    objects = json.loads(DETECTORS.read_text())
    notes = "".join(f"\n({i}) {reason}\n" for i, reason in enumerate(reasons, 1))
    detectors = OBJECTS.format(size=objects["export"]["size"], machine=f"{machine_of(objects)}.")
    return (
        f"{text}\n### One size, one image\n\n{fixed}\n### Free batch and size\n\n{free}{notes}"
        f"{detectors}One size:\n\n{table_of_objects(objects['rows'], 'fixed', list(FORMATS))}\nEvery size:\n\n"
        f"{table_of_objects(objects['rows'], 'free', not_fixed)}{whole_models()}"
    )


def machine_of(report: dict[str, Any]) -> str:
    of = report["machine"]
    packages = ", ".join(f"{name} {of[name]}" for name in ("torch", "onnxruntime", "openvino", "onnx", "onnxscript"))
    return f"Measured on: {of['device']}, threads: {of['threads']}; {packages}"


def int8_table() -> str:
    """The metrics of each tested model by PyTorch, as an ONNX file, and as its 8-bit copy."""
    rows = json.loads(INT8.read_text())["rows"]
    lines = ["| model | computed by | MiB | metrics on the test images | agreement |", "|:-|:-|-:|:-|-:|"]
    for row in rows:
        metrics = ", ".join(f"{name} {value:.2f}" for name, value in row["metrics"].items())
        agreement = "" if row.get("agreement") is None else f"{row['agreement']:.3f}"
        cells = [row["model"], row["form"], str(row.get("mib", "")), f"{metrics} ({row['images']} images)", agreement]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def table(rows: list[dict[str, Any]], extent: str, formats: list[str], reasons: list[str]) -> str:
    """A row for each measured arch. What stopped a format is added to ``reasons``, and the cell has its number."""
    found = {(row["arch"], row["format"]): row for row in rows if row["extent"] == extent}
    titles = [f"{name}, {FORMATS[name].runtime}" for name in formats]
    lines = [f"| arch | {' | '.join(titles)} |", f"{'|:-' * (len(formats) + 1)}|"]
    for arch in list_archs():
        if any(row["arch"] == arch and row["extent"] == extent for row in rows):
            cells = [cell(found.get((arch, name)) or found.get((arch, None)), reasons) for name in formats]
            lines.append(f"| {arch} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def block_forms() -> dict[str, str]:
    """The table of the forms of VAN's blocks, and what it is about."""
    report = json.loads(FORMS.read_text())
    names = list(report["rows"][0]["times"])[1:]
    lines = [f"| input of the block | {' | '.join(names)} |", f"|:-{'|-:' * len(names)}|"]
    for row in report["rows"]:
        ratios = [f"{row['times'][name]['ratio']:.2f}x" for name in names]
        lines.append(f"| {' x '.join(map(str, row['input']))} | {' | '.join(ratios)} |")
    of = report["machine"]
    about = f"of {report['arch']} for images of {report['size']}x{report['size']} pixels"
    return {"forms": "\n".join(lines), "forms_about": f"{about} ({of['device']}, threads: {of['threads']})"}


def table_of_objects(rows: list[dict[str, Any]], extent: str, formats: list[str]) -> str:
    """A row for each measured detector."""
    rows = [row for row in rows if row["extent"] == extent]
    titles = [f"{name}, {FORMATS[name].runtime}" for name in formats]
    lines = [f"| config | objects | {' | '.join(titles)} |", f"{'|:-' * (len(titles) + 2)}|"]
    for config in dict.fromkeys(row["config"] for row in rows):
        found = {row["format"]: row for row in rows if row["config"] == config}
        count = next((row["objects"] for row in found.values() if row["objects"]), "-")
        cells = [cell_of_objects(found.get(name)) for name in formats]
        lines.append(f"| {config} | {count} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def whole_models() -> str:
    """The section about whole models."""
    report = json.loads(WHOLE.read_text())
    names = list(report["rows"][0]["times"])
    lines = [f"| model | input | {' | '.join(names)} |", f"|:-|:-|{':-|' * len(names)}"]
    for row in report["rows"]:
        times = [f"{of['ms']:.1f}, {of['ratio']:.2f}x" for of in row["times"].values()]
        model = Path(row["model"]).parent.name
        lines.append(f"| {model} | {row['input'][-2]}x{row['input'][-1]} | {' | '.join(times)} |")
    of = report["machine"]
    packages = ", ".join(f"{name} {of[name]}" for name in ("torch", "onnxruntime", "openvino"))
    machine = f"Measured on: {of['device']}, threads: {of['threads']}; {packages}."
    return MODELS.format(machine=machine, table="\n".join(lines))


def cell_of_objects(row: dict[str, Any] | None) -> str:
    if row is None or row["refused"]:
        return "refused" if row else "-"
    return f"{1 - row['missed']:.1%}, {row['max_error']:.0e}, {row['ratio']:.2f}x"


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

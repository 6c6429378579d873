"""Exports a network as a file for other programs, and compares the file with PyTorch: ONNX, OpenVINO, torch.export.

python tools/export.py ARCH --format onnx [--pretrained WEIGHTS] [--out DIR]
python tools/export.py CHECKPOINT_OR_CONFIG [WEIGHTS] --format onnx openvino [--backbone]

An arch gives its backbone, whose outputs are maps. A checkpoint of this project, published weights or a config give the
whole model, or with --backbone its backbone. A detector's file gives boxes, scores, labels and maybe masks, after
suppression. Each file is run on photographs beside PyTorch. A file whose results differ by more than the tolerance is
not kept, and the exit status is 2. tools/predict.py and tools/extract_features.py take the files.
--int8 --calibration IMAGES also writes a copy of the ONNX file in 8-bit integers.
"""

import ziggurat.engine.start  # noqa: F401

import argparse
import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from backbones import UserError, list_archs
from backbones.export import FORMATS, Extent, check_packages
from backbones.export.formats import OPSETS
from backbones.export.program import FREE
from backbones.files import is_exported
from backbones.image_files import list_images
from backbones.plain_files import check_whole
from ziggurat.engine.cli import Parser, output_folder, run_tool
from ziggurat.engine.given import expanded
from ziggurat.engine.tool_options import add_config_options, count

DTYPES = ("float32", "float16", "bfloat16")
COLUMNS = ("format", "MiB", "objects", "same", "max error", "mean error", "PyTorch ms", "runtime ms", "faster", "file")
NO_OBJECTS = """
PyTorch finds no object in these photographs, so nothing was compared. For a comparison, export with a score_thr of 0:
--cfg-options model.test_cfg.score_thr=0, and for an R-CNN --cfg-options model.test_cfg.rcnn.score_thr=0"""
OF_OBJECTS = ("objects", "same")  # columns of detectors


def main() -> None:
    args = parse_args()
    formats = list(dict.fromkeys(args.format))
    if is_exported(args.model):
        raise UserError(f"{args.model} is exported already; allowed: what it was exported from")
    from ziggurat.engine.published import check_model_name

    check_model_name(args.model)
    check_packages(formats, args.dtype, () if args.dynamic is None else args.dynamic or FREE)
    calibration = list_images(expanded(args.calibration)) if args.int8 else []
    from ziggurat.engine.exporting import Row, export  # needs seconds: what can be refused, is before
    from ziggurat.engine.int8 import chosen, what_agrees
    from ziggurat.engine.photographs import photographs

    subject = subject_of(args)
    free = () if args.dynamic is None else tuple(args.dynamic or subject.free)
    height, width = args.size or subject.size
    extent = Extent((height, width), args.batch, free, subject.backbone.in_chans).check()
    subject.check(extent, args.dtype, args.int8)
    if args.int8:
        calibration = chosen(calibration, args.calibration_images, subject.prepare or check_whole)
    out = output_folder(args.out)
    refuse_existing(out, subject.name, formats, args.int8, args.overwrite)
    torch.set_num_threads(args.threads or torch.get_num_threads())
    print(heading(subject, extent, args))
    has_objects = "boxes" in subject.outputs
    errors = "the image's side, of scores and of masks" if has_objects else "the largest value"
    print(f"compared on {photographs()[1]}; errors are shares of {errors}\n")
    rows: list[Row] = []
    print(table_line({name: name for name in COLUMNS}, has_objects))
    options = (args.dtype, args.fuse, args.opset, args.repeats, calibration, args.overwrite)
    with stoppable() as stopped:
        for row in export(subject, formats, out, extent, *options):
            if stopped:
                raise stopped[0]
            print(line_of(row, has_objects), flush=True)
            rows.append(row)
    for row in rows:
        if row.agreement is not None:
            print(f"\n{what_agrees(subject.kind, row.agreement)}")
    if any(row.objects == 0 for row in rows):
        print(NO_OBJECTS)
    refused = [row for row in rows if row.refused]
    if refused:
        raise UserError("; ".join(f"{row.name} was not kept: {row.refused}" for row in refused))


@contextlib.contextmanager
def stoppable() -> Iterator[list[BaseException]]:
    """A block that Ctrl-C and SIGTERM end by an exception, so that temporary files go.

    A converter may take that exception for a fault of its own. The list that the block is given then has it.
    """
    came: list[BaseException] = []

    def stop(number: int, frame: Any) -> None:
        came.append(KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number))
        raise came[0]

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "model",
        metavar="ARCH_OR_MODEL",
        help="an arch that tools/model_info.py lists; or a checkpoint, the name of published weights, or a config",
    )
    parser.add_argument("checkpoint", nargs="?", help="the weights, if a config is given")
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=["onnx"], help="one or several (default: onnx)")
    parser.add_argument(
        "--out", type=Path, default=Path("work_dirs/export"), metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files of the same names")
    parser.add_argument("--pretrained", metavar="WEIGHTS", help="the weights of an arch (default: random weights)")
    parser.add_argument("--backbone", action="store_true", help="of a whole model export the backbone alone")
    parser.add_argument("--out-indices", nargs="+", type=int, help="of a backbone: stages whose maps are outputs")
    parser.add_argument(
        "--size", nargs="+", type=int, metavar="PIXELS", help="height and width of the input (default: the model's)"
    )
    parser.add_argument("--batch", type=count, default=1, help="images of an input (default: 1)")
    parser.add_argument(
        "--dynamic",
        nargs="*",
        choices=FREE,
        help="let later inputs have other numbers of images, or other sizes (without a choice: what the model allows)",
    )
    parser.add_argument(
        "--fuse",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="fold norms into convolutions (default: yes)",
    )
    parser.add_argument("--opset", type=int, help=f"of ONNX, {OPSETS[0]} to {OPSETS[1]} (default: PyTorch's choice)")
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="type of weights and input (default: float32)"
    )
    parser.add_argument(
        "--int8",
        action="store_true",
        help="with --format onnx: also write a copy in 8-bit integers, NAME.int8.onnx; not of detectors",
    )
    parser.add_argument(
        "--calibration",
        nargs="+",
        metavar="IMAGE_OR_FOLDER",
        help="of --int8: images as those of later predictions, such as some of the training",
    )
    parser.add_argument(
        "--calibration-images", type=count, default=128, metavar="N", help="of them, evenly spread (default: 128)"
    )
    parser.add_argument("--threads", type=count, help="of PyTorch and the runtimes (default: PyTorch's)")
    parser.add_argument("--repeats", type=count, default=5, help="timed calls, whose median counts (default: 5)")
    add_config_options(parser)
    args = parser.parse_args()
    if args.size and len(args.size) > 2:
        raise UserError(f"--size has {len(args.size)} values; allowed: one, or height and width")
    args.size = args.size and (args.size[0], args.size[-1])
    if args.opset is not None and not OPSETS[0] <= args.opset <= OPSETS[1]:
        raise UserError(f"--opset is {args.opset}; allowed: {OPSETS[0]} to {OPSETS[1]}")
    if args.int8 != (args.calibration is not None):
        raise UserError("--int8 and --calibration go together; allowed: both, such as --int8 --calibration FOLDER")
    if args.int8 and ("onnx" not in args.format or args.dtype != "float32"):
        raise UserError("--int8 is a copy of an ONNX file of float32; allowed: with --format onnx, without --dtype")
    is_arch = args.model in list_archs()
    if args.pretrained and not is_arch:
        raise UserError(f"--pretrained goes with an arch; {args.model} has its own weights")
    if is_arch and args.checkpoint:
        raise UserError(f"{args.model} and {args.checkpoint}: the weights of an arch are given by --pretrained")
    if args.out_indices and not (is_arch or args.backbone):
        raise UserError("--out-indices goes with an arch, or with --backbone")
    return args


def subject_of(args: argparse.Namespace) -> Any:
    """The ``ziggurat.engine.exporting.Subject`` that the arguments name."""
    from ziggurat.engine.exporting import backbone_subject, model_subject

    chosen = {} if args.out_indices is None else {"out_indices": args.out_indices}
    if args.model in list_archs():
        return backbone_subject(args.model, args.pretrained, **chosen)
    if args.backbone:
        return backbone_subject(None, args.checkpoint or args.model, **chosen)
    return model_subject(args.model, args.checkpoint, args.cfg_options)


def refuse_existing(out: Path, name: str, formats: list[str], int8: bool, overwrite: bool) -> None:
    """Raises UserError for a file that would be replaced without --overwrite."""
    suffixes = [FORMATS[of].suffix for of in formats] + ([".int8.onnx"] if int8 else [])
    for file in (out / f"{name}{suffix}" for suffix in suffixes):
        if file.exists() and not overwrite:
            raise UserError(f"{file} exists; allowed: another --out, or --overwrite")


def heading(subject: Any, extent: Extent, args: argparse.Namespace) -> str:
    """What is exported, for which inputs."""
    height, width = extent.size
    free = f", free {' and '.join(extent.free)}" if extent.free else ""
    weights = f"weights {subject.weights}" if subject.weights else "random weights"
    what = f"{subject.kind} {subject.backbone.arch}, {weights}, {args.dtype}"
    return f"{what}; {extent.batch} x {extent.channels} x {height} x {width}{free}"


def line_of(row: Any, has_objects: bool) -> str:
    """A row of the table."""
    if row.refused:
        return f"{row.name:<13}not kept, see below"
    cells = (
        row.name,
        f"{row.mib:.1f}",
        str(row.objects),
        f"{1 - row.errors.missed:.1%}",
        f"{row.errors.largest:.1e}",
        f"{row.errors.mean:.1e}",
        f"{row.torch_ms:.1f}",
        f"{row.ms:.1f}",
        f"{row.ratio:.2f}x",
        str(row.path),
    )
    return table_line(dict(zip(COLUMNS, cells, strict=True)), has_objects)


def table_line(cells: dict[str, str], has_objects: bool) -> str:
    """A line of the table: the first column to the left, figures to the right, the file last."""
    first, *figures, last = (text for name, text in cells.items() if has_objects or name not in OF_OBJECTS)
    return f"{first:<13}{''.join(f'{text:>12}' for text in figures)}  {last}"


if __name__ == "__main__":
    run_tool(main)

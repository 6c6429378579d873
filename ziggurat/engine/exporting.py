"""Exports, checked: each file is written beside its place, run on photographs, compared with PyTorch, and then kept."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from backbones import PyramidBackbone, create_backbone
from backbones.errors import UserError
from backbones.export import (
    FORMATS,
    Description,
    Errors,
    Exported,
    Extent,
    errors_of,
    prepared,
    record,
    tolerance_for,
    worst_of,
    write,
)
from backbones.export.formats import extent_of, files_of
from backbones.weights import Statistics, statistics
from backbones.weights.trained_reading import trained_reading
from ziggurat.engine.own_config import carried_config
from ziggurat.engine.photographs import batch_of, photographs
from ziggurat.engine.predictor import Predictor
from ziggurat.engine.published import published_model
from ziggurat.engine.reading import as_dict
from ziggurat.engine.timing import in_turn, seconds
from ziggurat.engine.wrappers import unwrap

CPU = torch.device("cpu")


class Subject(NamedTuple):
    """What is exported.

    Attributes:
        net: a backbone, or the module of a task's whole model, in eval mode on the CPU.
        name: the stem of the files.
        kind: see :class:`backbones.export.Description`.
        statistics: mean and std of the input.
        weights: the name or path of the weights; None for random ones.
        size: height and width in pixels, if none are asked for.
        classes: the names of a whole model's classes.
        config: see :class:`backbones.export.Description`.
        prepare: of a whole model the preparation of an image file for prediction, (1, C, h, w).
    """

    net: nn.Module
    name: str
    kind: str
    statistics: Statistics
    weights: str | None
    size: tuple[int, int] = (224, 224)
    classes: tuple[str, ...] = ()
    config: dict[str, Any] = {}
    prepare: Callable[[Path], Tensor] | None = None

    @property
    def backbone(self) -> PyramidBackbone:
        return next(module for module in self.net.modules() if isinstance(module, PyramidBackbone))

    def describe(self, extent: Extent, dtype: str, fused: bool) -> Description:
        backbone = self.backbone
        is_backbone = self.net is backbone
        return Description(
            kind=self.kind,
            arch=backbone.arch,
            outputs=tuple(f"stage{i}" for i in backbone.out_indices) if is_backbone else ("scores",),
            **extent._asdict(),
            dtype=dtype,
            mean=self.statistics.mean,
            std=self.statistics.std,
            statistics=self.statistics.source,
            weights=self.weights,
            out_indices=backbone.out_indices if is_backbone else (),
            feature_info=tuple(map(tuple, backbone.feature_info)) if is_backbone else (),
            classes=self.classes,
            config=self.config,
            fused=fused,
        )


class Row(NamedTuple):
    """One format of an export.

    Attributes:
        name: the format.
        path: the file; None if it was refused.
        mib: its size.
        errors: the worst over all sizes.
        sizes: the shapes of the inputs that were compared.
        agreement: of an 8-bit file, see ``ziggurat.engine.int8.agreement_of``.
        ms, torch_ms: median milliseconds of the runtime and of PyTorch for the first input.
        ratio: how many times faster than PyTorch the runtime is.
        refused: why there is no file.
    """

    name: str
    path: Path | None = None
    mib: float | None = None
    errors: Errors | None = None
    sizes: tuple[tuple[int, ...], ...] = ()
    ms: float | None = None
    torch_ms: float | None = None
    ratio: float | None = None
    refused: str | None = None
    agreement: float | None = None


def backbone_subject(arch: str | None, weights: str | None, **arguments: Any) -> Subject:
    """A backbone with published, own or random weights.

    Args:
        arch: None takes that of the weights, and their name for the files.
        weights: a name of the weights table, a URL, a file, or the config's name of a published model.
        **arguments: of ``create_backbone``.

    Raises:
        UserError: as ``create_backbone``.
    """
    published = published_model(weights) if arch is None else None
    name, weights = arch or stem_of(str(weights)), weights if published is None else str(published[1])
    net = create_backbone(arch, pretrained=weights, **arguments).eval()
    reading = {"reading": as_dict(trained_reading(net.arch, weights))}
    found = statistics(net.arch, weights).for_channels(net.in_chans)
    return Subject(net, name, "backbone", found, weights, config=reading if reading["reading"] else {})


def model_subject(given: str, checkpoint: str | None, options: Sequence[str]) -> Subject:
    """The model of a checkpoint, of published weights or of a config; arguments and errors as for ``Predictor``.

    Raises:
        UserError: also, where the task's whole models are not exported.
    """
    return subject_of(Predictor(given, checkpoint, device="cpu", cfg_options=list(options)), str(checkpoint or given))


def subject_of(predictor: Predictor, source: str) -> Subject:
    """The model of a predictor; UserError where the task's whole models are not exported. ``source`` names it."""
    model, task = unwrap(predictor.model), predictor.task
    net = task.exported(model).eval()
    found, size = statistics_of(model, source), task.counted_size(predictor.cfg)
    subject = Subject(net, stem_of(source), task.name, found, source, size, tuple(predictor.names))
    subject = subject._replace(config=carried_config(predictor.cfg, source), prepare=partial(prepared_by, predictor))
    return subject._replace(statistics=found.for_channels(subject.backbone.in_chans))


def prepared_by(predictor: Predictor, path: Path) -> Tensor:
    """An image file as a predictor's network gets it, (1, C, h, w); UserError if it cannot be read."""
    sample = predictor.sample(path)
    if isinstance(sample, UserError):
        raise sample
    return unwrap(predictor.model).data_preprocessor(predictor.collate([sample]), False)["inputs"]


def statistics_of(model: nn.Module, source: str) -> Statistics:
    """Mean and std of a whole model's preprocessing, for values in 0..1. A model without them takes 0..255."""
    of = {name: getattr(model.data_preprocessor, name, None) for name in ("mean", "std")}
    if None in of.values():
        return Statistics((0.0,), (1 / 255,), f"of {source}, which takes values in 0..255")
    mean, std = (tuple(round(v / 255, 6) for v in values.flatten().tolist()) for values in of.values())
    return Statistics(mean, std, f"of {source}")


def stem_of(source: str) -> str:
    """The stem of files for a checkpoint, a config, or weights by name or address."""
    name = source.rstrip("/").rpartition("/")[2]
    return Path(name).stem if Path(source).suffix in (".py", ".pth", ".pt", ".safetensors") else name


def export(
    subject: Subject,
    formats: Sequence[str],
    out: Path,
    extent: Extent,
    dtype: str = "float32",
    fuse: bool = True,
    opset: int | None = None,
    repeats: int = 5,
    calibration: Sequence[Path] = (),
) -> Iterator[Row]:
    """Writes a network in several formats, and yields what became of each.

    A file is in ``out`` only if its runtime's results are within the tolerance of PyTorch's.

    Args:
        subject: the network.
        formats: keys of ``backbones.export.FORMATS``.
        out: the folder of the files. It exists.
        extent: the inputs that the files are made for.
        dtype: the type of the weights: ``"float32"``, ``"float16"`` or ``"bfloat16"``.
        fuse: fold norms into convolutions.
        opset: of ONNX.
        repeats: timed calls.
        calibration: images by which an 8-bit copy of the ONNX file is made, see ``ziggurat.engine.int8``.

    Raises:
        UserError: the network cannot be recorded.
    """
    extent = extent.check()
    net = prepared(subject.net, fuse, free="size" in extent.free).to(getattr(torch, dtype))
    pictures, _ = photographs()
    programs: dict[Extent, Any] = {}
    for name in formats:
        of = extent_of(name, extent)
        try:
            if of not in programs:
                programs[of] = record(net, of)
            description = subject.describe(of, dtype, fuse)
            inputs = [
                batch_of(pictures, shape, description.mean, description.std).to(getattr(torch, dtype))
                for shape in shapes_of(of)
            ]
            with tempfile.TemporaryDirectory(dir=out, prefix=".export.") as folder:
                beside = Path(folder) / f"{subject.name}{FORMATS[name].suffix}"
                write(programs[of], name, beside, description, opset)
                row = checked(name, beside, net, inputs, dtype, repeats)
                rows = [row._replace(path=beside)]
                if calibration and name == "onnx":
                    rows.append(in_8_bits(subject, net, beside, description, calibration, repeats))
                for file in (file for kept in rows if kept.path for file in files_of(name, kept.path)):
                    file.replace(out / file.name)
            yield from (one._replace(path=one.path and out / one.path.name) for one in rows)
        except UserError as error:
            yield Row(name, refused=str(error))


def in_8_bits(
    subject: Subject, net: nn.Module, source: Path, description: Description, calibration: Sequence[Path], repeats: int
) -> Row:
    """The row of the 8-bit copy of an ONNX file."""
    from ziggurat.engine import int8

    try:
        path, told = int8.written(subject, net, source, description, calibration, repeats)
        return Row(int8.NAME, path, **told)
    except UserError as error:
        return Row(int8.NAME, refused=str(error))


def shapes_of(extent: Extent) -> list[tuple[int, int, int, int]]:
    """Up to three shapes of inputs on which an export is compared, that of the extent first."""
    (height, width), batch = extent.size, extent.batch
    shapes = [(batch, height, width), (batch, height, width), (batch, height, width)]
    if "size" in extent.free:
        shapes[1:] = [(batch, height + 32, width + 64), (batch, height * 5 // 4 + 3, width + 17)]
    if "batch" in extent.free:
        shapes[1:] = [(n, *shape[1:]) for n, shape in zip((batch + 1, batch + 2), shapes[1:], strict=True)]
    return [(n, extent.channels, h, w) for n, h, w in dict.fromkeys(shapes)]


def outputs_of(net: nn.Module, x: Tensor) -> list[Tensor]:
    """The outputs of a network; UserError unless they are one tensor, or several in a list or tuple."""
    found = net(x)
    found = [found] if isinstance(found, Tensor) else found
    if not isinstance(found, list | tuple) or not all(isinstance(output, Tensor) for output in found):
        raise UserError("the model's output is no tensor; allowed: models with one map of scores, or --backbone")
    return list(found)


@torch.no_grad()
def checked(name: str, path: Path, net: nn.Module, inputs: Sequence[Tensor], dtype: str, repeats: int) -> Row:
    """Runs an exported file beside the network.

    Raises:
        UserError: the runtime fails, or the results differ by more than the tolerance.
    """
    exported = Exported(path)
    if not all(t.isfinite().all() for t in outputs_of(net, inputs[0])):
        raise UserError("PyTorch's own outputs are not finite, so there is nothing to compare; allowed: other weights")
    worst = worst_of(errors_of(exported(x), net(x)) for x in inputs)
    tolerance = tolerance_for(net, dtype, inputs)
    if not worst.within(tolerance):
        raise UserError(
            f"{FORMATS[name].runtime} computes other values than PyTorch: max error {worst.largest:.2g}, mean "
            f"{worst.mean:.2g} of the largest value; allowed: {tolerance.largest:.2g} and {tolerance.mean:.2g}"
        )
    timers = {
        "torch": lambda: seconds(lambda: net(inputs[0]), CPU),
        "runtime": lambda: seconds(lambda: exported(inputs[0]), CPU),
    }
    times = in_turn(timers, repeats)
    mib = sum(file.stat().st_size for file in files_of(name, path)) / 2**20
    sizes = tuple(tuple(x.shape) for x in inputs)
    return Row(name, path, mib, worst, sizes, times["runtime"]["ms"], times["torch"]["ms"], times["runtime"]["ratio"])

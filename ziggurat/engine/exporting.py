"""Exports, checked: each file is written beside its place, run on photographs, compared with PyTorch, and then kept."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from backbones import PyramidBackbone, create_backbone
from backbones.errors import UserError
from backbones.export import FORMATS, Description, Extent, prepared, record, write
from backbones.export.formats import extent_of, files_of
from backbones.export.program import FREE, input_names
from backbones.weights import Statistics, statistics
from backbones.weights.trained_reading import trained_reading
from ziggurat.engine.export_check import Row, checked, inputs_of
from ziggurat.engine.leftovers import temporary_folder
from ziggurat.engine.own_config import carried_config
from ziggurat.engine.predictor import Predictor
from ziggurat.engine.published import published_model
from ziggurat.engine.reading import as_dict
from ziggurat.engine.wrappers import unwrap

TEMPORARY = re.compile(r"\S*[/\\]\.export\.\w+[/\\]")  # the folder of a file that is checked


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
        outputs: names of a whole model's outputs.
        free: the axes that may be free. Without ``"batch"`` there is one image at a time.
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
    outputs: tuple[str, ...] = ("scores",)
    free: tuple[str, ...] = FREE

    @property
    def backbone(self) -> PyramidBackbone:
        return next(module for module in self.net.modules() if isinstance(module, PyramidBackbone))

    def check(self, extent: Extent, dtype: str, int8: bool = False) -> None:
        """Raises UserError for inputs, a type of weights, or an 8-bit copy, that the network is not exported for."""
        if int8 and "boxes" in self.outputs:
            raise UserError(f"an 8-bit copy of {self.name}, which gives objects, is not made; allowed: without --int8")
        refused = set(extent.free) - set(self.free)
        if refused:
            allowed = ", ".join(self.free) or "without --dynamic"
            raise UserError(f"{self.kind} is exported without a free {min(refused)}; allowed: {allowed}")
        if "batch" not in self.free and extent.batch != 1:
            raise UserError(f"batch is {extent.batch}; allowed for {self.kind}: 1")
        if "boxes" in self.outputs and dtype != "float32":
            raise UserError(f"dtype is {dtype}; allowed for {self.kind}: float32, in which boxes are suppressed")

    def describe(self, extent: Extent, dtype: str, fused: bool) -> Description:
        backbone = self.backbone
        is_backbone = self.net is backbone
        return Description(
            kind=self.kind,
            arch=backbone.arch,
            outputs=tuple(f"stage{i}" for i in backbone.out_indices) if is_backbone else self.outputs,
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
            inputs=input_names(self.net),
        )


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
    found, size = statistics_of(model, source), tested_size(predictor) or task.counted_size(predictor.cfg)
    subject = Subject(net, stem_of(source), task.name, found, source, size, tuple(predictor.names))
    subject = subject._replace(config=carried_config(predictor.cfg, source), prepare=partial(prepared_by, predictor))
    subject = subject._replace(outputs=task.export_outputs(model), free=task.exported_free)
    return subject._replace(statistics=found.for_channels(subject.backbone.in_chans))


def tested_size(predictor: Predictor) -> tuple[int, int] | None:
    """Height and width of the largest input that the test pipeline's Resize makes; None without such a step."""
    steps = (predictor.cfg.test_dataloader.dataset.get("pipeline") or []) if predictor.cfg.test_dataloader else []
    scales = [step.get("scale") for step in steps if str(step.get("type")).endswith("Resize")]
    scale = next((one for one in scales if isinstance(one, list | tuple) and len(one) == 2), None)
    if scale is None or not all(isinstance(side, int) for side in scale):
        return None
    channels = next(m for m in unwrap(predictor.model).modules() if isinstance(m, PyramidBackbone)).in_chans
    sample = predictor.sample(np.zeros((scale[1], scale[0], channels), np.uint8))
    return None if isinstance(sample, UserError) else tuple(input_of(predictor, sample).shape[2:])


def input_of(predictor: Predictor, sample: dict[str, Any]) -> Tensor:
    """A preprocessed sample as a predictor's network gets it, (1, C, h, w)."""
    return unwrap(predictor.model).data_preprocessor(predictor.collate([sample]), False)["inputs"]


def prepared_by(predictor: Predictor, path: Path) -> Tensor:
    """An image file as a predictor's network gets it, (1, C, h, w); UserError if it cannot be read."""
    sample = predictor.sample(path)
    if isinstance(sample, UserError):
        raise sample
    return input_of(predictor, sample)


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
    overwrite: bool = True,
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
        overwrite: replace a file of the same name. Otherwise the new file is not kept.

    Raises:
        UserError: the network cannot be recorded.
    """
    extent = extent.check()
    subject.check(extent, dtype, bool(calibration))
    net = prepared(subject.net, fuse, free="size" in extent.free).to(getattr(torch, dtype))
    programs: dict[Any, Any] = {}
    has_objects = "boxes" in subject.outputs
    for name in formats:
        of = extent_of(name, extent)
        try:
            key = (of, name) if has_objects else of  # converters take a record with suppression once
            if key not in programs:
                programs[key] = record(net, of)
            description = subject.describe(of, dtype, fuse)
            inputs = [x.to(getattr(torch, dtype)) for x in inputs_of(of, description)]
            with temporary_folder(out, ".export.") as folder:
                beside = folder / f"{subject.name}{FORMATS[name].suffix}"
                write(programs[key], name, beside, description, opset)
                row = checked(name, beside, net, inputs, dtype, repeats)
                rows = [row._replace(path=beside)]
                if calibration and name == "onnx":
                    rows.append(in_8_bits(subject, net, beside, description, calibration, repeats))
                written = [file for kept in rows if kept.path for file in files_of(name, kept.path)]
                if not overwrite and (there := [file.name for file in written if (out / file.name).exists()]):
                    raise UserError(f"{out / there[0]} was written meanwhile; allowed: another --out, or --overwrite")
                for file in written:
                    file.replace(out / file.name)
            yield from (one._replace(path=one.path and out / one.path.name) for one in rows)
        except UserError as error:
            said = TEMPORARY.sub("", str(error))
            yield Row(name, refused=said + (hint_for(subject) if "size" in of.free else ""))


def hint_for(subject: Subject) -> str:
    """What to try where a file of free sizes was refused."""
    kept = "--dynamic batch, which keeps the size," if "batch" in subject.free else "a fixed size"
    return f"; {kept} may do"


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

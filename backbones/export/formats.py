"""The formats: how a recorded network is written in each, and which packages that needs."""

import contextlib
import importlib.util
import logging
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.export import ExportedProgram

from backbones.errors import UserError, one_line
from backbones.export.description import ENTRY, KEY, Description
from backbones.export.program import Extent
from backbones.files import write_json

INSTALL = 'pip install "ziggurat-vision[export]"'
PLACE = re.compile(r"(Exception from|Check '.*?' failed at) \S+:\d+: ")  # in messages of OpenVINO
OPSETS = (18, 23)  # the first and the last that PyTorch's exporter writes


class Format(NamedTuple):
    """A format of exported files.

    Attributes:
        suffix: of its files.
        packages: that writing and running it need, besides PyTorch.
        write: writes a record to a path: ``write(program, path, description, opset)``.
        runtime: what runs the file.
        dtypes: the types of weights that it takes.
        is_fixed: whether it is made for one size and one number of images.
        beside: suffixes of further files that belong to it.
    """

    suffix: str
    packages: tuple[str, ...]
    write: Callable[[ExportedProgram, Path, Description, int | None], None]
    runtime: str
    dtypes: tuple[str, ...] = ("float32", "float16", "bfloat16")
    is_fixed: bool = False
    beside: tuple[str, ...] = ()


def write_pt2(program: ExportedProgram, path: Path, description: Description, opset: int | None) -> None:
    torch.export.save(program, path, extra_files={ENTRY: description.as_text()})


def write_onnx(program: ExportedProgram, path: Path, description: Description, opset: int | None) -> None:
    with quiet():
        written = torch.onnx.export(
            program,
            (),
            input_names=list(description.inputs),
            output_names=list(description.outputs),
            opset_version=opset,
            dynamo=True,
            verbose=False,
        )
    written.model.metadata_props[KEY] = description.as_text()
    written.save(path, external_data=False)


def write_openvino(program: ExportedProgram, path: Path, description: Description, opset: int | None) -> None:
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        source: ExportedProgram | Path = program
        if any("torchvision" in str(node.target) for node in program.graph.nodes):  # OpenVINO reads these from ONNX
            check_packages(["onnx"])
            source = Path(folder) / "between.onnx"
            write_onnx(program, source, description, opset)
        with quiet():
            model = openvino.convert_model(source)
        for port, name in zip(
            (*model.inputs, *model.outputs), (*description.inputs, *description.outputs), strict=True
        ):
            port.tensor.set_names({name})
        model.set_rt_info(description.as_text(), [KEY])
        openvino.save_model(model, path, compress_to_fp16=False)


def write_torchscript(program: ExportedProgram, path: Path, description: Description, opset: int | None) -> None:
    examples, _ = program.example_inputs
    with quiet(), torch.no_grad():
        traced = torch.jit.trace(program.module(check_guards=False), examples, check_trace=False)
        torch.jit.save(traced, path, _extra_files={ENTRY: description.as_text()})


FORMATS = {
    "pt2": Format(".pt2", (), write_pt2, "PyTorch"),
    "onnx": Format(
        ".onnx", ("onnx", "onnxscript", "onnxruntime"), write_onnx, "ONNX Runtime", dtypes=("float32", "float16")
    ),
    "openvino": Format(
        ".xml", ("openvino",), write_openvino, "OpenVINO", dtypes=("float32", "float16"), beside=(".bin",)
    ),
    "torchscript": Format(".torchscript", (), write_torchscript, "TorchScript", is_fixed=True),
}


def check_packages(formats: Sequence[str], dtype: str = "float32", free: Sequence[str] = ()) -> None:
    """Raises UserError for a format that cannot be written here, with this type of weights or these free axes."""
    for name in formats:
        of = FORMATS[name]
        missing = [package for package in of.packages if importlib.util.find_spec(package) is None]
        if missing:
            raise UserError(f"format {name} needs {', '.join(missing)}, not installed here; {INSTALL}")
        if dtype not in of.dtypes:
            raise UserError(f"dtype is {dtype}, format {name}; allowed: {', '.join(of.dtypes)}")
        if of.is_fixed and free:
            raise UserError(f"format {name} keeps one size and one number of images; allowed: without --dynamic")


def write(
    program: ExportedProgram, name: str, path: str | Path, description: Description, opset: int | None = None
) -> None:
    """Writes a record in a format, and the description as JSON beside the file.

    Args:
        program: the result of :func:`backbones.export.program.record`.
        name: a key of ``FORMATS``.
        path: the file.
        description: of the file.
        opset: the version of ONNX's operators, 18 to 23. None takes that of PyTorch's exporter.

    Raises:
        UserError: packages are missing, or the format's converter refuses the network.
    """
    path, of = Path(path), FORMATS[name]
    check_packages([name])
    if opset is not None and not OPSETS[0] <= opset <= OPSETS[1]:
        raise UserError(f"opset is {opset}; allowed: {OPSETS[0]} to {OPSETS[1]}")
    description = description._replace(versions=versions(of.packages))
    try:
        of.write(program, path, description, opset)
    except OSError:
        raise
    except Exception as error:
        raise UserError(f"the converter to {name} refuses {description.arch}: {cause_of(error)}") from error
    write_json(path.with_name(f"{path.name}.json"), description.as_dict())


def files_of(name: str, path: Path) -> list[Path]:
    """The files that belong to an exported file: the file, others of its format, and the description."""
    return [path, *(path.with_suffix(suffix) for suffix in FORMATS[name].beside), path.with_name(f"{path.name}.json")]


def reason_of(error: BaseException) -> str:
    """Why a runtime cannot read a file: its error on one short line, without the places in OpenVINO's code."""
    text = PLACE.sub("", one_line(error))
    return text if len(text) <= 160 else f"{text[:160]} ..."


def cause_of(error: BaseException) -> str:
    """The first cause of an error, on one line of moderate length."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = one_line(error)
    return text if len(text) <= 300 else f"{text[:300]} ..."


def versions(packages: Sequence[str]) -> dict[str, str]:
    """The versions of this project, of PyTorch and of ``packages``."""
    found = {}
    for package in ("ziggurat-vision", "torch", *packages):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """A block in which converters print no warnings about their own code."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def extent_of(name: str, extent: Extent) -> Extent:
    """The extent that a format can be written for: without free axes where the format keeps one size."""
    return extent._replace(free=()) if FORMATS[name].is_fixed else extent


def format_of(path: Path) -> tuple[str, Any]:
    """The name of a file's format, and the format, by its suffix; UserError for another suffix."""
    for name, of in FORMATS.items():
        if path.suffix.lower() in of.beside:
            raise UserError(f"{path} is a part of an exported file; allowed: {path.with_suffix(of.suffix)}")
        if path.suffix.lower() == of.suffix:
            return name, of
    allowed = ", ".join(of.suffix for of in FORMATS.values())
    raise UserError(f"exported file is {path}; allowed suffixes: {allowed}")

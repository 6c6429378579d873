"""``Exported`` runs an exported file with the call of the network that it was made from."""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from backbones.checks import check_int
from backbones.errors import UserError, one_line
from backbones.errors import shown as spelled
from backbones.export.description import ENTRY, KEY, Description, description_in
from backbones.export.formats import INSTALL, format_of, quiet, reason_of
from backbones.export.program import SHOWN
from backbones.pyramid import FeatureInfo

Run = Callable[..., list[Tensor]]  # of the inputs that the description names


class Exported:
    """A network in a file that ``ziggurat export`` wrote, computed on the CPU by the format's runtime. Example::

        net = Exported("van_b2.onnx")
        maps = net(images)  # as of the network: one (B, C_i, H_i, W_i) map per out_indices

    Args:
        path: the file: .onnx (ONNX Runtime), .xml with its .bin (OpenVINO), .pt2 (torch.export) or .torchscript.
        threads: of ONNX Runtime and OpenVINO. None takes those of PyTorch. The other two run in PyTorch.

    Attributes:
        description: what the file says of itself, see :class:`backbones.export.description.Description`.
        feature_info: channels and stride of each map of a backbone; empty for a whole model.

    Raises:
        UserError: the file is absent, of another kind or damaged, or its runtime is not installed.
    """

    def __init__(self, path: str | Path, threads: int | None = None):
        if not isinstance(path, str | Path):
            raise UserError(f"path is {spelled(path)}; allowed: the path of an exported file")
        self.path = Path(path)
        self.format, of = format_of(self.path)
        if not self.path.is_file():
            raise UserError(f"no such exported file: {self.path}")
        runtime = RUNTIMES[self.format]
        if runtime.package and importlib.util.find_spec(runtime.package) is None:
            raise UserError(f"{self.path} is run by {runtime.package}, which is not installed here; {INSTALL}")
        threads = torch.get_num_threads() if threads is None else check_int("threads", threads, 1, None)
        try:
            with quiet():
                self.run, text = runtime.open(self.path, threads)
        except Exception as error:
            missing = [path for path in map(self.path.with_suffix, of.beside) if not path.is_file()]
            if missing:
                raise UserError(f"no such file: {missing[0]}, which is a part of {self.path}") from error
            what = f"{self.path}: it is damaged, not complete, or of a newer version"
            raise UserError(f"{of.runtime} cannot read {what} ({reason_of(error)})") from error
        self.description: Description = description_in(text, self.path)
        self.feature_info = [FeatureInfo(*row) for row in self.description.feature_info]

    def __repr__(self) -> str:
        return f"Exported({str(self.path)!r}: {self.description.kind} {self.description.arch})"

    @torch.no_grad()
    def __call__(self, x: Tensor, shown: Sequence[float] | Tensor | None = None) -> tuple[Tensor, ...] | Tensor:
        """Computes the outputs.

        Args:
            x: (B, C, H, W) on the CPU, normalised with ``description.mean`` and ``std``, of ``description.dtype``.
            shown: height and width in pixels of the image at the top left of ``x``, for a file whose
                ``description.inputs`` name it. None is the whole input.

        Returns:
            The maps of a backbone, finest first; of a whole model its output, or its outputs if there are several.

        Raises:
            UserError: ``x`` or ``shown`` has another shape or type, or the runtime fails.
        """
        if not isinstance(x, Tensor) or str(x.dtype) != f"torch.{self.description.dtype}" or x.device.type != "cpu":
            what = f"{x.dtype} on {x.device}" if isinstance(x, Tensor) else spelled(x)
            raise UserError(f"input is {what}; allowed: a tensor of torch.{self.description.dtype} on cpu")
        self.description.check(tuple(x.shape))
        inputs = (x.contiguous(), *self.second_input(x, shown))
        try:
            outputs = self.run(*inputs)
        except Exception as error:
            shape = "x".join(map(str, x.shape))
            raise UserError(f"{self.path} fails for an input of {shape}: {one_line(error)}") from error
        is_one = self.description.kind != "backbone" and len(outputs) == 1
        return outputs[0] if is_one else tuple(outputs)

    def second_input(self, x: Tensor, shown: Any) -> tuple[Tensor, ...]:
        """The image's height and width for a file that takes them, (2,); UserError if they are not within ``x``."""
        if SHOWN not in self.description.inputs:
            if shown is not None:
                raise UserError(f"shown is {spelled(shown)}; allowed for {self.path}: None, as it has no such input")
            return ()
        height, width = x.shape[2:]
        sides = (height, width) if shown is None else shown.tolist() if hasattr(shown, "tolist") else shown
        if not is_within(sides, (height, width)):
            raise UserError(f"shown is {spelled(shown)}; allowed: height and width, up to {height} and {width}")
        return (torch.tensor(sides, dtype=x.dtype),)


def is_within(sides: Any, size: tuple[int, int]) -> bool:
    """Whether ``sides`` are two numbers above 0 and up to ``size``."""
    return (
        isinstance(sides, list | tuple)
        and len(sides) == 2
        and all(isinstance(side, int | float) and 0 < side <= most for side, most in zip(sides, size, strict=True))
    )


def open_onnx(path: Path, threads: int) -> tuple[Run, str | None]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # errors are raised, too; warnings are about its own optimisations
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [of.name for of in session.get_inputs()]

    def run(*inputs: Tensor) -> list[Tensor]:
        arrays = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
        return [torch.from_numpy(array) for array in session.run(None, arrays)]

    return run, session.get_modelmeta().custom_metadata_map.get(KEY)


def open_openvino(path: Path, threads: int) -> tuple[Run, str | None]:
    import openvino

    model = openvino.Core().read_model(path)
    # Processors with bfloat16 units would otherwise compute in that type.
    precise = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    compiled = openvino.Core().compile_model(model, "CPU", precise)
    count = len(model.outputs)

    def run(*inputs: Tensor) -> list[Tensor]:
        found = compiled([x.numpy() for x in inputs])
        return [torch.from_numpy(found[i].copy()) for i in range(count)]  # the next call writes over them

    text = model.get_rt_info([KEY]).astype(str) if model.has_rt_info([KEY]) else None
    return run, text


def open_pt2(path: Path, threads: int) -> tuple[Run, str | None]:
    import torchvision  # noqa: F401  registers the operators of detectors

    extra = {ENTRY: ""}
    # Guards would refuse small images, whose coarsest map has one row: the record was made with several.
    module = torch.export.load(path, extra_files=extra).module(check_guards=False)
    return by_torch(module), extra[ENTRY]


def open_torchscript(path: Path, threads: int) -> tuple[Run, str | None]:
    import torchvision  # noqa: F401  registers the operators of detectors

    extra = {ENTRY: ""}
    module = torch.jit.load(path, map_location="cpu", _extra_files=extra)
    return by_torch(module), extra[ENTRY]


def by_torch(module: Any) -> Run:
    def run(*inputs: Tensor) -> list[Tensor]:
        found = module(*inputs)
        return [found] if isinstance(found, Tensor) else list(found)

    return run


class Runtime(NamedTuple):
    """How files of a format are opened, and the package that this needs besides PyTorch."""

    open: Callable[[Path, int], tuple[Run, str | None]]
    package: str | None = None


RUNTIMES = {
    "onnx": Runtime(open_onnx, "onnxruntime"),
    "openvino": Runtime(open_openvino, "openvino"),
    "pt2": Runtime(open_pt2),
    "torchscript": Runtime(open_torchscript),
}

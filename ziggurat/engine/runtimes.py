"""Predictions by exported files: their runtime computes the network, the task's own code everything around it."""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import Tensor, nn

from backbones.errors import Notice, UserError
from backbones.export import Exported, Extent
from backbones.export.program import LEAST_FREE, SHOWN
from backbones.export.runtimes import InRuntime, check_data, check_file, check_runtime, digest_of, parts_of
from backbones.weights.digest import sha256_of_content
from ziggurat.engine.config import apply_options
from ziggurat.engine.export_check import inputs_of
from ziggurat.engine.exporting import subject_of
from ziggurat.engine.mistakes import config_mistakes
from ziggurat.engine.options import flat
from ziggurat.engine.own_config import building, read_config
from ziggurat.engine.task import Task
from ziggurat.engine.tasks import task_for
from ziggurat.engine.wrappers import unwrap

__all__ = ["RuntimeModel", "check_runtime", "compute_by", "open_exported"]


class RuntimeModel(nn.Module):
    """A model whose network exported files compute. ``test_step`` gives what the model's own ``test_step`` gives.

    A batch that does not fit the file is made smaller until it does, with its aspect ratio, and padded at the right and
    at the bottom. The samples tell so, as mm's own steps do.

    Args:
        task: the model's task.
        cfg: the completed config. Its ``model`` may have wrappers.
        preprocessor: the model's data preprocessor.
        files: gives the file for a size of preprocessed images, (height, width).
        digest: tells the weights apart from others.
    """

    def __init__(
        self,
        task: Task,
        cfg: Config,
        preprocessor: nn.Module,
        files: Callable[[tuple[int, int]], Exported],
        digest: str,
    ):
        super().__init__()
        task.check_runtime(cfg)
        model = cfg.model
        while "module" in model:
            model = model["module"]
        self.task, self.cfg = task, Config(dict(model=model))
        self.data_preprocessor, self.files, self.digest = preprocessor, files, digest
        self.is_noted = False

    def test_step(self, data: Any) -> list[Any]:
        data = self.data_preprocessor(data, False)
        inputs, samples = data["inputs"], data.get("data_samples")
        file = self.files(tuple(inputs.shape[2:]))
        if isinstance(samples, list) and "size" not in file.description.free:
            self.check_size(inputs, file)
            inputs = fitted(inputs, samples, tuple(file.description.size))
        tells = isinstance(samples, list) and SHOWN in file.description.inputs
        shown = [tuple(sample.img_shape[:2]) for sample in samples] if tells else None
        found: list[Any] = []
        for part, outputs in parts_of(file, inputs, shown):
            of_part = None if samples is None else samples[part]
            found += self.task.samples_of_export(self.cfg, outputs, of_part)
        return found

    def check_size(self, inputs: Tensor, file: Exported) -> None:
        """Raises UserError for images of another size than the file's, if the model takes no padding.

        Otherwise a note says once that they are fitted to the file.
        """
        (height, width), size = inputs.shape[2:], tuple(file.description.size)
        if (height, width) == size:
            return
        if not self.task.takes_padding(self.cfg):
            raise UserError(
                f"the input is {width}x{height} pixels after preprocessing; allowed for an exported "
                f"{self.cfg.model.type}: {size[1]}x{size[0]}, as the file was exported, since no mask hides padding"
            )
        if not self.is_noted:
            self.is_noted = True
            warnings.warn(
                Notice(
                    f"after preprocessing images are not {size[1]}x{size[0]} pixels, as {file.path.name} was exported, "
                    f"but e.g. {width}x{height}; they are made smaller or padded, so results are others than those of "
                    "the checkpoint; --size of the export sets the size, and --runtime with a checkpoint takes all"
                ),
                stacklevel=2,
            )


def fitted(inputs: Tensor, samples: list[Any], size: tuple[int, int]) -> Tensor:
    """A batch (B, C, h, w), as large as ``size`` at most, padded to ``size`` with 0. Tells the samples, in place."""
    height, width = inputs.shape[2:]
    if (height, width) == size:
        return inputs
    ratio = min(size[0] / height, size[1] / width, 1.0)
    inside = [max(1, min(limit, round(side * ratio))) for side, limit in zip((height, width), size, strict=True)]
    if inside != [height, width]:
        inputs = F.interpolate(inputs, inside, mode="bilinear", antialias=True)
    for sample in samples:
        scales = inside[1] / width, inside[0] / height
        sides = zip(shown_in(sample, (height, width)), scales[::-1], strict=True)
        shown = tuple(max(1, round(side * scale)) for side, scale in sides)
        padding = [0, size[1] - shown[1], 0, size[0] - shown[0]]
        told = dict(pad_shape=size, batch_input_shape=size, img_shape=shown, padding_size=padding)
        if "scale_factor" in sample:
            told["scale_factor"] = tuple(one * scale for one, scale in zip(sample.scale_factor, scales, strict=True))
        sample.set_metainfo(told | dict(img_padding_size=padding))
    return F.pad(inputs, (0, size[1] - inside[1], 0, size[0] - inside[0]))


def shown_in(sample: Any, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a sample's image in a batch of ``size``, without the filling at the right and the bottom.

    Samples of mmseg tell the filling, those of mmdet the image's size.
    """
    filling = sample.get("img_padding_size", sample.get("padding_size"))
    if filling is None:
        height, width = sample.get("img_shape", size)[:2]
        return min(height, size[0]), min(width, size[1])
    _, right, _, bottom = filling
    return size[0] - bottom, size[1] - right


def compute_by(predictor: Any, runtime: str) -> None:
    """Has a predictor's network computed by a runtime, in place.

    Raises:
        UserError: the network cannot be exported, the runtime computes other values than PyTorch, or the predictor
            needs more than passes of the network.
    """
    model, task = unwrap(predictor.model), predictor.task
    task.check_runtime(predictor.cfg)
    subject = subject_of(predictor, str(predictor.cfg.filename))
    size, free = subject.size, task.exported_free
    if free != ("batch",):  # images have many sizes, and a small one is enough to see that the network can be exported
        size = tuple(min(side, LEAST_FREE) for side in size)
    extent = Extent(size, 1, free, subject.backbone.in_chans)
    describe = partial(subject.describe, dtype="float32", fused=True)
    files = InRuntime(subject.net, runtime, describe, extent, images=inputs_of)
    digest = sha256_of_content(dict(model.state_dict()))
    replace(predictor, RuntimeModel(task, predictor.cfg, model.data_preprocessor, files, digest).eval())


def replace(predictor: Any, model: nn.Module) -> None:
    """Puts a model in the place of a predictor's, inside its wrappers."""
    outer = predictor.model
    if unwrap(outer) is outer:
        predictor.model = model
        return
    while unwrap(outer.module) is not outer.module:
        outer = outer.module
    outer.module = model


def open_exported(predictor: Any, path: str | Path, runtime: str | None, options: dict[str, Any]) -> None:
    """Gives a predictor its task, config and model, of an exported file.

    Raises:
        UserError: the file is absent or damaged, holds a backbone, carries no config or one that would run code, or an
            option would change the network.
    """
    check_data(path)
    file = Exported(path)
    check_file(file, runtime, predictor.device)
    described = file.description
    if described.kind == "backbone":
        raise UserError(f"{path} holds a backbone; allowed: an export of a whole model, or FeatureExtractor")
    for key in flat(options):
        if key.split(".")[0] in ("model", "classes"):
            raise UserError(f"option {key} would change the network, and {path} is exported already; leave it out")
    cfg = read_config(described.config, path)
    apply_options(cfg, options, Path(path))
    predictor.cfg, predictor.task = cfg, task_for(cfg)

    def build(cfg: Config) -> nn.Module:
        return model_of_file(file, predictor.task, cfg)

    with building(path), config_mistakes(cfg):
        predictor.build(described.classes, build)
    predictor.model.eval()


def model_of_file(file: Exported, task: Task, cfg: Config) -> nn.Module:
    """The model of a completed config whose network a file holds, in the config's wrappers."""
    model, outer = cfg.model, None
    while "module" in model:
        outer, model = model, model["module"]
    with task.scoped(cfg):
        preprocessor = MODELS.build(model.get("data_preprocessor") or dict(type="BaseDataPreprocessor"))
        normalise(preprocessor, file)
        computed = RuntimeModel(task, cfg, preprocessor, lambda size: file, digest_of(file))
        if outer is None:
            return computed
        outer["module"] = computed
        return MODELS.build(cfg.model)


def normalise(preprocessor: nn.Module, file: Exported) -> None:
    """Gives a preprocessor the file's mean and std, which may be those of a checkpoint and not of its config."""
    for name in ("mean", "std"):
        buffer, values = getattr(preprocessor, name, None), getattr(file.description, name)
        if isinstance(buffer, Tensor) and buffer.numel() == len(values):
            exact = torch.tensor(values, dtype=torch.float64).mul(255).view_as(buffer)
            if not torch.allclose(buffer.double(), exact, rtol=0, atol=1e-3):
                buffer.copy_(exact)

"""Speed and memory of a config's whole model: of inference, and of a training step with its parts."""

import contextlib
import copy
import io
import multiprocessing
import statistics
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, FUNCTIONS
from torch import nn

from backbones.errors import UserError
from ziggurat.engine.cli import find_user_error
from ziggurat.engine.config import load_config
from ziggurat.engine.console import library_warnings_to
from ziggurat.engine.dry_run import few_steps
from ziggurat.engine.image_batches import collate_name
from ziggurat.engine.memory import PeakMemory, is_out_of_memory
from ziggurat.engine.predictor import Predictor
from ziggurat.engine.run import build_training
from ziggurat.engine.step_times import StepTimes, medians
from ziggurat.engine.tasks import task_for
from ziggurat.engine.timing import cpu_seconds, seconds
from ziggurat.engine.wrappers import unwrap

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}
WARM_UP = 1  # calls or steps that do not count: they meet new memory


class Setting(NamedTuple):
    """What is measured, and how.

    Attributes:
        config: a config's path.
        options: changes of the config, as of ``--cfg-options``.
        checkpoint: the model's weights, or None for random ones.
        size: height and width of random images in pixels. None: for inference those at which papers count such a
            model, for training the config's crops.
        batch: images in a batch.
        device: ``"cpu"`` or ``"cuda"``.
        precision: a key of ``PRECISIONS``. ``"bf16"`` is autocast.
        threads: of PyTorch on a CPU.
        repeats: timed calls or steps.
        own_data: take the images of the config's data sets, not random ones. Its loader is then timed as well.
    """

    config: str
    options: list[str]
    checkpoint: str | None
    size: tuple[int, int] | None
    batch: int
    device: str
    precision: str
    threads: int
    repeats: int
    own_data: bool


def measure_inference(setting: Setting) -> dict[str, Any]:
    """Speed and memory of the model's test pass, from a batch in memory to its results.

    Returns:
        ``params``; ``size``, height and width of the batch's first image; ``ms`` and ``cpu_ms``, medians for a batch;
        ``images_per_s``; ``objects``, the mean number of objects found in an image, for models that find objects; and
        the figures of ``ziggurat.engine.memory.PeakMemory``.

    Raises:
        UserError: the config, its data or the checkpoint are not usable, or memory is short.
    """
    with measuring("inference", setting) as cfg:
        cfg.model.backbone.pretrained = None
        task, device = task_for(cfg), torch.device(setting.device)
        if setting.checkpoint:
            model = Predictor(cfg, setting.checkpoint, device=setting.device).model
        else:
            model = task.build_model(cfg).to(device).eval()
        size = setting.size or task.counted_size(cfg)
        dataset = task.build_dataset(cfg, "test") if setting.own_data else random_set(cfg, setting, size)
        collate = FUNCTIONS.get(collate_name(cfg) if cfg.get("test_dataloader") else "pseudo_collate")
        batch = collate([dataset[i % len(dataset)] for i in range(setting.batch)])
        memory = PeakMemory(device, model)
        results: list[Any] = []

        def call() -> None:
            with torch.no_grad(), autocast(device, PRECISIONS[setting.precision]), task.scoped(cfg):
                results[:] = model.test_step(copy.deepcopy(batch))

        wall, cpu = [], []
        for _ in range(WARM_UP + setting.repeats):
            cpu.append(cpu_seconds(lambda: wall.append(seconds(call, device)), device))
        ms, cpu_ms = (1e3 * statistics.median(times[WARM_UP:]) for times in (wall, cpu))
        return {
            "params": parameters(model),
            "size": list(batch["inputs"][0].shape[-2:]),
            "ms": round(ms, 2),
            "cpu_ms": round(cpu_ms, 2),
            "images_per_s": round(1e3 * setting.batch / ms, 3),
            "objects": objects_in(results),
            **memory.figures(),
        }


def measure_training(setting: Setting) -> dict[str, Any]:
    """Speed and memory of training steps, in the loop that ``tools/train.py`` runs, with the config's hooks.

    Returns:
        ``params``; ``size``, height and width of the last batch; ``parts``, the medians of
        ``ziggurat.engine.step_times.medians``; ``ms``, ``cpu_ms`` and ``images_per_s`` of the whole step; ``workers``
        of the loader; and the figures of ``ziggurat.engine.memory.PeakMemory``.

    Raises:
        UserError: as :func:`measure_inference`.
    """
    with measuring("training", setting) as cfg, tempfile.TemporaryDirectory() as folder:
        if setting.checkpoint:
            cfg.load_from = setting.checkpoint
        cfg.model.backbone.pretrained = None
        shorten_training(cfg, setting)
        runner = build_training(cfg, folder, device=setting.device, amp=setting.precision == "bf16")
        sizes: list[list[int]] = []
        model = unwrap(runner.model)
        model.data_preprocessor.register_forward_hook(lambda *call: sizes.append(list(call[-1]["inputs"].shape[-2:])))
        memory = PeakMemory(torch.device(setting.device), model)
        runner.train()
        times = next(hook for hook in runner.hooks if isinstance(hook, StepTimes))
        parts = medians(times.steps[WARM_UP:])
        whole = parts.pop("step")
        return {
            "params": parameters(model),
            "size": sizes[-1],
            **whole,
            "images_per_s": round(1e3 * setting.batch / whole["ms"], 3),
            "workers": cfg.train_dataloader.get("num_workers", 0),
            "parts": parts,
            **memory.figures(),
        }


def in_fresh_process(measure: Callable[[Setting], dict[str, Any]], setting: Setting) -> dict[str, Any]:
    """A measurement in a process that ends after it, whose memory is that of the measurement alone."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(measure, setting).result()
        except BrokenProcessPool:
            raise UserError(
                f"{setting.config}: the system ended the process, as it does when memory is short; allowed: a smaller "
                "--size or --batch"
            ) from None


@contextlib.contextmanager
def measuring(what: str, setting: Setting) -> Iterator[Config]:
    """The config of a measurement. Prints of libraries are dropped, and a lack of memory is said in one line."""
    torch.manual_seed(0)
    if setting.device == "cpu":
        torch.set_num_threads(setting.threads)
    try:
        with contextlib.redirect_stdout(io.StringIO()), library_warnings_to(None):
            yield load_config(setting.config, setting.options)
    except Exception as error:
        if is_out_of_memory(error) and not find_user_error(error):
            raise UserError(
                f"{what} of {setting.config} needs more memory than {setting.device} has; allowed: a smaller --size or "
                "--batch, or --cfg-options model.backbone.grad_checkpointing=True"
            ) from error
        raise


def shorten_training(cfg: Config, setting: Setting) -> None:
    """Makes a training of few steps of a config, in place: without validation, checkpoints and changes of the rate."""
    few_steps(cfg, setting.batch, WARM_UP + setting.repeats, same_loader=setting.own_data)
    if not setting.own_data:
        cfg.train_dataloader.dataset = random_config(cfg, setting, task_for(cfg).training_size(cfg, setting.size))
    cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), dict(type=StepTimes.__name__)]


def random_config(cfg: Config, setting: Setting, size: tuple[int, int]) -> dict[str, Any]:
    """The config of the task's random data set, of as many images as a batch has."""
    return dict(task_for(cfg).random_data(cfg), number=setting.batch, height=size[0], width=size[1])


def random_set(cfg: Config, setting: Setting, size: tuple[int, int]) -> Any:
    with task_for(cfg).scoped(cfg):
        return DATASETS.build(random_config(cfg, setting, size))


def autocast(device: torch.device, precision: torch.dtype | None) -> torch.autocast:
    return torch.autocast(device.type, precision, enabled=precision is not None)


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def objects_in(results: list[Any]) -> float | None:
    """The mean number of objects in an image's results; None for results of other kinds."""
    found = [getattr(one, "pred_instances", None) for one in results]
    return None if None in found else statistics.mean(map(len, found))

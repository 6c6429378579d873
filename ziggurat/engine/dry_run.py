"""A few training steps in a process of their own, to learn how much memory a batch takes.

The process gets a pickled request on its standard input, then sizes, one a line. It answers each with a line of JSON.
The random numbers, weights and statistics of the training are those of another process, and stay as they are.
"""

import contextlib
import copy
import json
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS
from mmengine.utils import import_modules_from_strings
from torch.utils.data import Dataset

from backbones.errors import one_line
from ziggurat.engine.cli import find_user_error
from ziggurat.engine.freezing import backbones_in
from ziggurat.engine.memory import CLEAR, FORGET_PEAK, is_out_of_memory, resident
from ziggurat.engine.run import build_training
from ziggurat.engine.tasks import task_for
from ziggurat.engine.training_options import OPTIONS

LOOKED_AT = 16  # images, of which the largest is trained on
STEPS = 2  # the optimiser has its state in the second one
KEPT = ("EMAHook",)  # hooks that take memory


@DATASETS.register_module(force=True)
class SameItem(Dataset):
    """One item of a data set, again and again.

    Attributes:
        item, metainfo: are set on the class, since a config holds text alone.
    """

    item: Any = None
    metainfo: Any = None

    def __init__(self, number: int):
        self.number = number

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> Any:
        return copy.deepcopy(self.item)


def few_steps(cfg: Config, batch: int, steps: int, same_loader: bool = False) -> None:
    """Makes a training of few steps of a config, in place: without validation, checkpoints and changes of the rate.

    Unless ``same_loader``, the images come in their order, without workers.
    """
    loader = cfg.train_dataloader
    loader.batch_size = batch
    if not same_loader:
        loader.sampler = dict(type="InfiniteSampler", shuffle=False)
        loader.update(num_workers=0, persistent_workers=False)
        for name in ("prefetch_factor", "batch_sampler"):
            loader.pop(name, None)
    cfg.train_cfg = dict(type="IterBasedTrainLoop", max_iters=steps, val_interval=steps + 1)
    cfg.param_scheduler = []
    cfg.setdefault("default_hooks", {})["checkpoint"] = None
    if cfg.get("auto_scale_lr"):
        cfg.auto_scale_lr.enable = False
    for split in ("val", "test"):
        for part in ("dataloader", "cfg", "evaluator"):
            cfg[f"{split}_{part}"] = None


def keep_largest(cfg: Config) -> int | None:
    """Keeps the largest of some training images for ``SameItem``. Returns the number of all images, if it is known."""
    dataset = task_for(cfg).build_dataset(cfg, "train")
    images = len(dataset) if hasattr(dataset, "__len__") else None
    count = min(images or LOOKED_AT, LOOKED_AT)
    items = [dataset[i * (images or count) // count] for i in range(count)]
    SameItem.item = max(items, key=lambda item: size_of(item["inputs"]))
    SameItem.metainfo = getattr(dataset, "metainfo", {})
    return images


def size_of(inputs: Any) -> int:
    """The number of pixels of an image, or of all its crops."""
    return sum(map(size_of, inputs)) if isinstance(inputs, list) else inputs.shape[-1] * inputs.shape[-2]


def train_on(cfg: Config, batch: int, device: str) -> dict[str, Any]:
    """Trains a few steps. Returns ``bytes``, of this process or on the GPU, and the ``seconds`` of the last step."""
    cfg = copy.deepcopy(cfg)
    few_steps(cfg, batch, STEPS)
    cfg.train_dataloader.dataset = dict(type=SameItem.__name__, number=batch)
    with tempfile.TemporaryDirectory() as folder:
        runner = build_training(cfg, folder, device=device)
        start_counting(device)
        times: list[float] = []
        step = runner.model.train_step

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return step(*args, **kwargs)
            finally:
                times.append(time.perf_counter() - start)

        runner.model.train_step = timed
        runner.train()
    most = torch.cuda.max_memory_reserved() if device == "cuda" else resident("VmHWM")
    return {"bytes": most, "seconds": times[-1]}


def start_counting(device: str) -> None:
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return
    with contextlib.suppress(OSError):  # otherwise the peak is that of the largest batch so far
        CLEAR.write_text(FORGET_PEAK)


def prepared(request: dict[str, Any]) -> Config:
    """The config of a request, without what needs files, names or other processes."""
    cfg = Config(request["config"], filename=request["filename"])
    if cfg.get("custom_imports"):
        import_modules_from_strings(**cfg.custom_imports)
    for backbone in backbones_in(cfg.model):
        if "pretrained" in backbone:
            backbone["pretrained"] = None
    for name in OPTIONS:
        cfg[name] = None  # the options are carried out already
    cfg.load_from, cfg.resume, cfg.track, cfg.launcher = None, False, None, "none"
    cfg.custom_hooks = [hook for hook in cfg.get("custom_hooks") or [] if hook.get("type") in KEPT]
    cfg.visualizer = {**(cfg.get("visualizer") or dict(type="Visualizer")), "vis_backends": []}
    return cfg


def answered(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a piece of work returns; ``short`` where memory was, and ``fault`` where the config is wrong."""
    try:
        return work()
    except Exception as error:
        mistake = find_user_error(error)
        if is_out_of_memory(error) and not mistake:
            return {"short": True}
        return {"fault": mistake or f"a dry run failed: {one_line(error)}"}


def main() -> None:
    sent = os.fdopen(os.dup(1), "w", buffering=1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # prints and warnings are those of the training, which gives them again
    os.dup2(nowhere, 2)
    request = pickle.load(sys.stdin.buffer)
    device, found = request["device"], []

    def look() -> dict[str, Any]:
        if device == "cuda":
            torch.cuda.set_device(request["gpu"])
        else:
            torch.set_num_threads(request["threads"])
        found.append(prepared(request))
        free = torch.cuda.mem_get_info()[0] if device == "cuda" else None
        return {"images": keep_largest(found[0]), "free": free}

    print(json.dumps(answered(look)), file=sent)
    for line in iter(sys.stdin.buffer.readline, b""):
        print(json.dumps(answered(lambda size=int(line): train_on(found[0], size, device))), file=sent)


if __name__ == "__main__":
    main()

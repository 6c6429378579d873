"""tools/benchmark.py: speed, memory and the parts of a step, for a config of every task; mistakes in one line."""

import json
import math
import subprocess
import sys
from types import SimpleNamespace

import benchmark
import benchmark_backbones
import pytest
import torch
from dense_data import SLIM_ROI, SMALL_LOADERS, small_coco_pipelines, write_coco
from helpers import run
from torch import nn

from backbones import UserError
from detection.random_data import RandomScenes
from ziggurat.engine import benchmark as measuring
from ziggurat.engine.step_times import PARTS, StepTimes, medians

MASK_RCNN = "detection/configs/van/mask_rcnn_van_b0_fpn_1x_coco.py"
SLIM = SLIM_ROI | {"model.roi_head.bbox_head.in_channels": 32, "model.roi_head.bbox_head.fc_out_channels": 64}
SMALL = {  # options that make the config of a kind small
    "classification": {},
    "detection": SLIM,
    "segmentation": {
        "model.data_preprocessor.size": "(64,96)",
        "model.decode_head.channels": 32,
        "model.auxiliary_head.channels": 32,
    },
}
CONFIGS = {
    "classification": "classification/configs/van/van_b0_8xb128_in1k.py",
    "detection": MASK_RCNN,
    "segmentation": "segmentation/configs/van/upernet_van_b0_512x512_160k_ade20k.py",
}


@pytest.fixture(autouse=True)
def here(monkeypatch, request, cut_depths):
    """Measures in this process, on networks with one block a stage."""
    monkeypatch.chdir(request.config.rootpath)
    monkeypatch.setattr(benchmark, "in_fresh_process", lambda measure, setting: measure(setting))
    cut_depths("van_b0", (1, 1, 1, 1))


def options(given):
    return ["--cfg-options", *(f"{key}={value}" for key, value in given.items())] if given else []


def check(report, size):
    """The parts are all there, and no part is negative; memory holds the weights at least."""
    training = report["training"]
    assert list(training["parts"]) == list(PARTS)
    assert all(times[clock] >= 0 for times in training["parts"].values() for clock in ("ms", "cpu_ms"))
    for part in ("backbone", "heads", "heads_backward", "backbone_backward", "optimizer"):
        assert training["parts"][part]["ms"] > 0, part
    for name in ("inference", "training"):
        of = report[name]
        assert of["size"] == size and of["images_per_s"] == pytest.approx(2000 / of["ms"], rel=1e-2)
        assert of["mib"] > of["params"] * 4 / 2**20 * 0.9
        assert ("process_mib" in of) == (report["model"]["device"] == "cpu")  # on a GPU, only tensors are counted
        assert of.get("process_mib", math.inf) > of["mib"]
    assert training["params"] == report["inference"]["params"]


@pytest.mark.parametrize("kind", CONFIGS)
def test_figures_of_every_task(kind, tmp_path, monkeypatch, capsys):
    argv = [CONFIGS[kind], "--size", "64x96", "--batch", 2, "--repeats", 2, "--threads", 1, "--device", "cpu"]
    argv += ["--out", tmp_path / "model.json", *options(SMALL[kind])]
    status, out, err = run(benchmark, argv, monkeypatch, capsys)
    assert (status, err) == (0, "")
    report = json.loads((tmp_path / "model.json").read_text())
    check(report, [64, 96])
    objects = report["inference"]["objects"]
    assert (objects is not None) == (kind == "detection")
    assert ("no objects were found" in out) == (objects == 0)
    assert all(text in out for text in PARTS.values())
    status, out, _ = run(benchmark_backbones, ["--tables", tmp_path], monkeypatch, capsys)
    assert status == 0 and "| inference | 64x96 |" in out and PARTS["backbone_backward"] in out


LSJ = "detection/configs/van/mask2former_van_b1_lsj_50e_coco_panoptic.py"


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (CONFIGS["classification"], (224, 224)),
        (MASK_RCNN, (800, 1280)),
        (LSJ, (1024, 1024)),
        ("detection/configs/van/dino_van_b1_12e_coco.py", (800, 1280)),
        ("detection/configs/van/rtmdet_van_b1_300e_coco.py", (640, 640)),
        (CONFIGS["segmentation"], (512, 512)),
    ],
)
def test_training_is_measured_at_the_size_of_its_crops(config, size):
    from ziggurat.engine.config import load_config
    from ziggurat.engine.tasks import task_for

    cfg = load_config(config)
    assert task_for(cfg).training_size(cfg, None) == size
    assert task_for(cfg).training_size(cfg, (64, 96)) == (64, 96)


def test_random_scenes_of_a_panoptic_model_have_stuff():
    sample = RandomScenes(things=3, classes=5, number=1, height=40, width=70)[0]
    truth, areas = sample["data_samples"].gt_instances, sample["data_samples"].gt_sem_seg.sem_seg
    assert sample["inputs"].shape == (3, 40, 70) and areas.shape == (1, 40, 70) and int(areas.max()) == 3
    masks = torch.from_numpy(truth.masks.masks)
    assert masks.shape == (len(truth.bboxes), 40, 70) and bool((masks.sum((1, 2)) > 0).all())
    assert torch.equal(masks.amax(0) == 0, areas[0] == 3) and truth.labels.max() < 3


def test_own_data_and_a_checkpoint(tmp_path, monkeypatch, capsys):
    """The loader of the config's data is timed, and the checkpoint's weights compute."""
    from ziggurat.engine.config import load_config
    from ziggurat.engine.tasks import task_for

    data = SMALL_LOADERS | SLIM | {"data_root": str(write_coco(tmp_path / "coco"))}
    pipelines = small_coco_pipelines(True)
    load = measuring.load_config
    monkeypatch.setattr(measuring, "load_config", lambda path, given: load(path, data | pipelines))
    cfg = load_config(MASK_RCNN, data | pipelines | {"model.backbone.pretrained": None})
    torch.save({"state_dict": task_for(cfg).build_model(cfg).state_dict()}, tmp_path / "weights.pth")
    argv = [MASK_RCNN, tmp_path / "weights.pth", "--own-data", "--batch", 2, "--repeats", 2, "--threads", 1]
    argv += ["--precision", "bf16", "--out", tmp_path / "model.json"]
    status, _, err = run(benchmark, argv, monkeypatch, capsys)
    assert (status, err) == (0, "")
    report = json.loads((tmp_path / "model.json").read_text())
    check(report, [64, 64])
    assert report["training"]["parts"]["loader"]["ms"] > 0.1  # reads and decodes two files


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["no.py"], "no such config"),
        ([MASK_RCNN, "no.pth"], "no.pth"),
        ([MASK_RCNN, "--size", "64"], "--size"),
        ([MASK_RCNN, "--size", "64x64", "--own-data"], "--own-data"),
        ([MASK_RCNN, "--only", "tests"], "--only"),
        ([MASK_RCNN, "--out", "docs"], "docs is a folder"),
        ([CONFIGS["segmentation"], "--size", "64x64", "--only", "training"], "batch_size is 1"),
        ([LSJ, "--size", "800x1280", "--only", "training"], "pads to 1024x1024; allowed: sizes up to it"),
    ],
)
def test_mistakes_are_named(argv, words, monkeypatch, capsys):
    status, _, err = run(benchmark, argv, monkeypatch, capsys)
    assert status == 2 and words in err and err.count("\n") == 1


def test_a_lack_of_memory_is_said_in_one_line(monkeypatch):
    setting = measuring.Setting(MASK_RCNN, [], None, (64, 64), 1, "cpu", "fp32", 1, 1, False)

    def no_memory(*_):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(measuring, "random_set", no_memory)
    with pytest.raises(UserError, match="needs more memory than cpu has; allowed: a smaller --size"):
        measuring.measure_inference(setting)


class Killed:
    """A pool whose process the system ends."""

    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, *_):
        raise measuring.BrokenProcessPool


def test_an_ended_process_is_said_in_one_line(monkeypatch):
    monkeypatch.setattr(measuring, "ProcessPoolExecutor", Killed)
    setting = measuring.Setting(MASK_RCNN, [], None, (64, 64), 1, "cpu", "fp32", 1, 1, False)
    with pytest.raises(UserError, match="the system ended the process, as it does when memory is short"):
        measuring.in_fresh_process(measuring.measure_inference, setting)


KEEPS_64_MIB = """
import torch
from ziggurat.engine.memory import PeakMemory

memory = PeakMemory(torch.device("cpu"), torch.nn.Linear(1 << 10, 1 << 10))  # 4 MiB
first = memory.figures()["mib"]
kept = torch.ones(64 << 20, dtype=torch.uint8)
print(first, memory.figures()["mib"])
"""


def test_memory_of_a_model_is_its_weights_and_what_comes_later():
    """In a process of its own: what earlier tests leave is freed at any time."""
    printed = subprocess.run([sys.executable, "-c", KEEPS_64_MIB], capture_output=True, text=True, check=True).stdout
    first, later = map(float, printed.split())
    assert first >= 4 and later - first == pytest.approx(64, abs=8)


class Slow(nn.Module):
    """Takes a known time forward, and a known time backward."""

    def __init__(self, forward, backward):
        super().__init__()
        self.seconds = forward, backward
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x, **_):
        return Sleep.apply(x * self.weight, *self.seconds)


class Sleep(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, seconds, later):
        ctx.later = later
        busy(seconds)
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        busy(ctx.later)
        return grad, None, None


def busy(seconds):
    from time import process_time

    end = process_time() + seconds
    while process_time() < end:
        pass


def test_the_time_of_each_part_is_counted_as_that_part():
    """By CPU time, with parts that compute for 10 to 60 milliseconds."""
    model = nn.Module()
    model.data_preprocessor = nn.Identity()
    model.backbone, model.head = Slow(0.02, 0.03), Slow(0.04, 0.05)
    model.forward = lambda x: model.head(model.backbone(model.data_preprocessor(x)))
    optim = SimpleNamespace(backward=lambda loss: loss.backward(), step=lambda: busy(0.06), zero_grad=lambda: None)
    loop = SimpleNamespace(dataloader_iterator=iter([]))
    runner = SimpleNamespace(model=model, optim_wrapper=optim, train_loop=loop)

    def batches():
        while True:
            busy(0.01)
            yield torch.ones(3)

    loop.dataloader_iterator = batches()
    times = StepTimes()
    times.before_train(runner)
    for _ in range(3):
        loss = model(next(loop.dataloader_iterator)).sum()
        optim.backward(loss)
        optim.step()
    times.after_train(runner)
    assert len(times.steps) == 3
    found = {part: of["cpu_ms"] for part, of in medians(times.steps).items()}
    expected = dict(loader=10, backbone=20, heads=40, heads_backward=50, backbone_backward=30, optimizer=60)
    assert found == pytest.approx(dict(preprocessing=0, rest=0, step=210) | expected, abs=5)

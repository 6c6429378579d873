"""The sections of the GPU report, each run by gpu_report.py in a process of its own.

python tools/bench/gpu_sections.py SECTION ROWS DATA [--small]

Every finding is one JSON line in the file ROWS, written at once, so nothing is lost at the time limit. A finding that
failed has the key ``error``, one line. The variable GPU_REPORT_ENDS holds the time to stop, in seconds since 1970.
"""

import contextlib
import copy
import json
import os
import platform
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ARCHS = ("van_b2", "hornet_tiny_7x7", "pvig_small", "vig_small", "vvt_small")  # one of each family
SMALL = ("vvt_tiny",)  # for the dry run: VVT-Tiny has few blocks, and a peer that needs no package
CONFIGS = (  # and the folder of the demo data
    ("classification/configs/demo/van_b0_digits.py", "digits"),
    ("detection/configs/demo/mask_rcnn_van_b0_digits.py", "coco"),
    ("segmentation/configs/demo/upernet_van_b0_digits.py", "ade"),
)
MODELS = {  # config of a whole model -> images in a batch of one GPU
    "detection/configs/van/mask_rcnn_van_b2_fpn_1x_coco.py": 2,
    "detection/configs/hornet/cascade_mask_rcnn_hornet_tiny_7x7_fpn_3x_coco.py": 2,
    "detection/configs/pvig/mask_rcnn_pvig_small_fpn_1x_coco.py": 2,
    "detection/configs/vig/mask_rcnn_vig_small_sfp_1x_coco.py": 2,
    "detection/configs/vvt/mask_rcnn_vvt_small_fpn_1x_coco.py": 2,
    "detection/configs/van/dino_van_b2_12e_coco.py": 2,
    "detection/configs/van/mask2former_van_b2_lsj_50e_coco_panoptic.py": 2,
    "segmentation/configs/van/upernet_van_b2_512x512_160k_ade20k.py": 4,
    "segmentation/configs/hornet/upernet_hornet_tiny_gf_512x512_160k_ade20k.py": 2,
    "segmentation/configs/vvt/upernet_vvt_small_512x512_160k_ade20k.py": 2,
}
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}
OPERATOR_TOLERANCE = 1e-4  # relative, float32: sums in another order, atomic additions
COMPILED_TOLERANCE = 1e-3  # relative, float32 without TF32


class Findings:
    """The file for a section's rows, and the section's time limit."""

    def __init__(self, path: Path, ends: float):
        self.path, self.ends = path, ends
        self.write(machine=machine())

    def write(self, **entry: Any) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def row(self, **values: Any) -> None:
        self.write(row=values)

    def time_is_over(self) -> bool:
        return time.time() > self.ends

    @contextlib.contextmanager
    def one(self, **names: Any) -> Iterator[dict[str, Any]]:
        """One finding: the given names, and the values that the block adds. An error in the block becomes one line."""
        found = dict(names)
        try:
            yield found
        except Exception as error:
            found["error"] = one_line(error)
        self.row(**found)


def one_line(error: Exception) -> str:
    text = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {text}"[:300]


def machine() -> dict[str, str]:
    import torchvision

    name = torch.cuda.get_device_name() if DEVICE == "cuda" else "no GPU"
    found = {"device": name, "python": platform.python_version(), "torch": torch.__version__}
    return found | {"torchvision": torchvision.__version__, "cuda": torch.version.cuda or "none"}


def tests(findings: Findings, data: Path, small: bool) -> None:
    """The operators' own tests, which run on both devices if there is a GPU, then tests/test_cuda.py."""
    processes = min(8, os.cpu_count() or 1)
    for file in (*(() if small else ("test_mmcv_ops_*.py",)), "test_cuda.py"):
        files = sorted(str(path) for path in (ROOT / "tests").glob(file) if "install" not in path.name)
        with findings.one(tests=file) as found:
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", str(processes), *files]
            seconds = min(600.0, max(1.0, findings.ends - time.time()))
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds)
            summary = (done.stdout.strip().splitlines() or [""])[-1]
            found |= {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped)", summary)}
            failed = re.findall(r"^FAILED \S+::(\S+)", done.stdout, re.MULTILINE)
            if done.returncode:
                raise AssertionError("; ".join(failed)[:250] or summary or done.stderr.strip().splitlines()[-1])


def operators(findings: Findings, data: Path, small: bool) -> None:
    from operator_cases import CASES, difference

    for case in CASES:
        with findings.one(operator=case.__name__) as found:
            found["difference"] = difference(case, DEVICE)
            if not found["difference"] <= OPERATOR_TOLERANCE:
                raise AssertionError(f"differs from the CPU by more than {OPERATOR_TOLERANCE}")


def training(findings: Findings, data: Path, small: bool) -> None:
    """Steps of each task from the demo's configs, in a group of one process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    os.environ |= dict(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    if not (data / "demo_data.json").exists():
        counts = [
            "--num-train",
            "16" if small else "64",
            "--num-val",
            "4",
            "--digits-train",
            "256",
            "--digits-val",
            "16",
        ]
        data = Path(tempfile.mkdtemp()) / "demo"
        subprocess.run([sys.executable, ROOT / "tools/make_demo_data.py", "--out", data, *counts], check=True)
    for precision in ("bfloat16", "float16") if DEVICE == "cuda" else ("bfloat16",):  # no loss scaling on a CPU
        for config, folder in CONFIGS:
            if findings.time_is_over():
                return
            with findings.one(task=config.partition("/")[0], precision=precision) as found:
                train(config, data / folder, precision, 1 if small else 30, found)


def train(config: str, data: Path, precision: str, steps: int, found: dict[str, Any]) -> None:
    from ziggurat.engine.config import load_config
    from ziggurat.engine.run import build_training

    options = {
        "data_root": str(data.absolute()),
        "train_cfg": dict(_delete_=True, type="IterBasedTrainLoop", max_iters=steps, val_interval=10**6),
        "train_dataloader.sampler.type": "InfiniteSampler",
        "train_dataloader.batch_size": 2 if steps == 1 else 16,
        "train_dataloader.num_workers": 0 if steps == 1 else 4,
        "train_dataloader.persistent_workers": False,
        "log_processor.by_epoch": False,
        "log_processor.window_size": 1,
        "default_hooks.logger.interval": 1,
        "default_hooks.checkpoint.interval": -1,
        "param_scheduler": [],
    }
    if precision == "float16":
        options |= {"optim_wrapper.type": "AmpOptimWrapper", "optim_wrapper.loss_scale": "dynamic"}
    with tempfile.TemporaryDirectory() as work_dir:
        cfg, amp = load_config(config, options), precision == "bfloat16"
        runner = build_training(cfg, work_dir, launcher="pytorch", amp=amp, device=DEVICE)
        start = time.perf_counter()
        runner.train()
        losses = [float(value) for value in runner.message_hub.get_scalar("train/loss").data[0]]
    found["group"] = torch.distributed.get_backend()
    found |= dict(steps=len(losses), first=losses[0], last=losses[-1], seconds=round(time.perf_counter() - start, 1))
    if len(losses) != steps or not all(torch.tensor(losses).isfinite()):
        raise AssertionError("the loss is not finite at every step")
    if steps > 10 and not sum(losses[-5:]) < sum(losses[:5]):
        raise AssertionError("the loss did not fall")


def compiled(findings: Findings, data: Path, small: bool) -> None:
    """Maps and gradients of a whole compiled graph beside eager ones; the seconds are those of compiling."""
    from backbones import create_backbone

    side, backend = (64, "eager") if small else (224, "inductor")
    for arch in SMALL if small else ARCHS:
        if findings.time_is_over():
            return
        with findings.one(arch=arch) as found:
            torch._dynamo.reset()
            torch.manual_seed(0)
            net = create_backbone(arch).to(DEVICE).eval()
            image = torch.randn(2, 3, side, side, device=DEVICE)
            run = torch.compile(net, fullgraph=True, backend=backend)
            start = time.perf_counter()
            maps = run(image)
            sum(m.square().mean() for m in maps).backward()
            found["seconds"] = round(time.perf_counter() - start, 1)
            found["gradients"] = all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
            with torch.no_grad():
                expected = net(image)
            pairs = zip(maps, expected, strict=True)
            found["difference"] = max(((a - b).norm() / b.norm()).item() for a, b in pairs)
            if not found["gradients"]:
                raise AssertionError("gradients are missing or not finite")
            if not found["difference"] <= COMPILED_TOLERANCE:
                raise AssertionError(f"maps differ from eager ones by more than {COMPILED_TOLERANCE}")


def models(findings: Findings, data: Path, small: bool) -> None:
    """Whole models at the sizes at which papers count them, in bfloat16: images/s, and MiB of tensors."""
    from ziggurat.engine.benchmark import Setting, measure_inference, measure_training

    chosen = {"detection/configs/demo/mask_rcnn_van_b0_digits.py": 1} if small else MODELS
    for config, batch in chosen.items():
        if findings.time_is_over():
            return
        with findings.one(model=Path(config).stem, batch=batch) as found:
            size, repeats = ((64, 64), 1) if small else (None, 8)
            setting = Setting(config, [], None, size, batch, DEVICE, "bf16", 1, repeats, own_data=False)
            for what, measure in {"inference": measure_inference, "training": measure_training}.items():
                figures = measure(setting)
                found |= {f"{what} {key}": figures[key] for key in ("size", "images_per_s", "mib")}
        if DEVICE == "cuda":
            torch.cuda.empty_cache()


class Features(nn.Module):
    """torchvision's classifier without its head, as a network that returns maps."""

    def __init__(self, classifier: nn.Module):
        super().__init__()
        self.features = classifier.features

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.features(x),)


def speed(findings: Findings, data: Path, small: bool) -> None:
    """Inference and a training step of all networks in turn, in one process: images/s, and MiB of working memory.

    The most useful settings come first. The compiled ones come last, since compiling takes long.
    """
    sizes = ((224, 224, 64), (800, 1344, 2))
    settings = [(size, precision, c) for c in (False, True) for precision in ("bf16", "fp32") for size in sizes]
    if small:
        settings = [((64, 64, 1), "fp32", False)]
    for size, precision, compiles in settings:
        archs = SMALL if small else ARCHS
        for arch in archs:
            if findings.time_is_over():
                return
            setting = Comparison(*size, precision, compiles, rounds=1 if small else 10)
            compare(findings, arch, setting, beside_torchvision=arch == archs[0])
            if DEVICE == "cuda":
                torch.cuda.empty_cache()


class Comparison(NamedTuple):
    height: int
    width: int
    batch: int
    precision: str
    compiles: bool
    rounds: int  # timed calls of each network

    def columns(self) -> dict[str, Any]:
        size = f"{self.height}x{self.width}"
        return dict(size=size, batch=self.batch, precision=self.precision, compiled=self.compiles)


def compare(findings: Findings, arch: str, setting: Comparison, beside_torchvision: bool) -> None:
    """One arch, unfused and fused, beside its peer and optionally torchvision's two. Ratios are to the first."""
    import benchmark_backbones

    x = torch.rand(setting.batch, 3, setting.height, setting.width, device=DEVICE) * 2 - 1
    calls: dict[str, dict[str, Callable[[], Any]]] = {"inference": {}, "training": {}}
    for name, make in networks(arch, beside_torchvision).items():
        if findings.time_is_over():
            break
        names = dict(arch=arch, network=name)
        try:
            net = make().to(DEVICE)
            run = torch.compile(net) if setting.compiles else net
            precision = PRECISIONS[setting.precision]
            of = {"inference": benchmark_backbones.inference(net, run, x, precision)}
            if name != "fused":
                of["training"] = benchmark_backbones.training_step(net, run, x, precision)
            for what, call in of.items():
                call()  # compiles the network, and raises if it cannot run
                calls[what][name] = call
        except Exception as error:
            ours = name in ("ours", "fused")  # other networks may refuse a size, or not be installed
            findings.row(**names, **setting.columns(), **{"error" if ours else "note": one_line(error)})
    for what, group in calls.items():
        if not group or findings.time_is_over():
            return
        for name, figures in benchmark_backbones.paired(group, torch.device(DEVICE), setting.rounds).items():
            findings.row(
                **dict(arch=arch, network=name, what=what),
                **setting.columns(),
                images_per_s=round(1e3 * setting.batch / max(figures["ms"], 1e-3), 1),
                ms=figures["ms"],
                faster=figures["ratio"],
                mib=figures["mib"],
            )


def networks(arch: str, beside_torchvision: bool) -> dict[str, Callable[[], nn.Module]]:
    """The networks to compare, by name. The peer comes first."""
    import benchmark_backbones
    import torchvision
    from benchmark_peers import make_peer

    torch.manual_seed(0)
    ours = benchmark_backbones.made_as_the_peer(arch)
    found = {
        "peer": partial(make_peer, ours),
        "ours": lambda: ours,
        "fused": lambda: copy.deepcopy(ours).fuse(),
    }
    if beside_torchvision:
        found["swin_t"] = lambda: Features(torchvision.models.swin_t())
        found["convnext_tiny"] = lambda: Features(torchvision.models.convnext_tiny())
    return found


SECTIONS = {
    "operators": operators,
    "tests": tests,
    "training": training,
    "compile": compiled,
    "models": models,
    "speed": speed,
}


def main() -> None:
    section, rows, data, *small = sys.argv[1:]
    findings = Findings(Path(rows), float(os.environ.get("GPU_REPORT_ENDS", "inf")))
    from ziggurat import mmcv_ops

    mmcv_ops.install()  # this Python may not be the one that the project is installed in
    if section in ("operators", "compile"):
        torch.backends.cudnn.allow_tf32 = False  # compared to more digits than TF32 has
    SECTIONS[section](findings, Path(data), bool(small))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # skips the shutdown of the process group and of loaders

"""Checks every arch on the GPU against the CPU, in float32, bfloat16 and float16, and times it.

python tools/check_gpu.py [PATTERN ...] [--compile] [--out docs/benchmarks/gpu_<name>.json]

Prints a line per arch and exits with status 1 where one fails: relative error above 1e-3 in maps or gradients
(float32 without TF32), or a value that is not finite under autocast.
"""

import argparse
import json
import time
from pathlib import Path

import torch
import torchvision

from backbones import PyramidBackbone, UserError, create_backbone
from engine.cli import run_tool
from model_info import matching

LIMIT = 1e-3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("patterns", nargs="*", default=["*"], metavar="PATTERN", help="arch names, * and ? allowed")
    parser.add_argument("--size", type=int, default=224, help="height and width of the images timed")
    parser.add_argument("--batch-size", type=int, default=32, help="images per batch when timing")
    parser.add_argument("--compile", action="store_true", help="also check and time torch.compile (minutes per arch)")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        raise UserError("no GPU is visible to PyTorch; allowed: a machine with a CUDA device and its driver")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    rows = []
    for arch in dict.fromkeys(arch for pattern in args.patterns for arch in matching(pattern)):
        rows.append(check(arch) | speed(arch, args.size, args.batch_size, args.compile))
        print("  ".join(f"{key} {value:.3g}" if isinstance(value, float) else f"{value}" for key, value in rows[-1].items()))
    if args.out:
        about = {
            "gpu": torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "input": [args.batch_size, 3, args.size, args.size],
        }
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(about | {"archs": rows}, indent=2) + "\n")
    return int(not all(row["ok"] for row in rows))


def check(arch: str) -> dict:
    """Maps and gradients on both devices from the same weights and images, and autocast in both half types."""
    torch.manual_seed(0)
    net = create_backbone(arch)
    images = torch.randn(2, 3, 96, 128)
    # With random weights a batch's own statistics amplify rounding from layer to layer; running statistics do not.
    reference = maps_and_gradients(net.eval(), images)
    net.cuda()
    ours = maps_and_gradients(net, images.cuda())
    row = {
        "arch": arch,
        "map_error": max(relative(a, b) for a, b in zip(ours[0], reference[0], strict=True)),
        "gradient_error": max(relative(a, b) for a, b in zip(ours[1], reference[1], strict=True)),
    }
    net.train()
    for name, dtype in (("bfloat16", torch.bfloat16), ("float16", torch.float16)):
        with torch.autocast("cuda", dtype):
            maps, gradients = maps_and_gradients(net, images.cuda())
        row[f"{name}_finite"] = all(bool(t.isfinite().all()) for t in maps + gradients)
    errors_small = row["map_error"] < LIMIT and row["gradient_error"] < LIMIT
    return row | {"ok": errors_small and row["bfloat16_finite"] and row["float16_finite"]}


def maps_and_gradients(net: PyramidBackbone, images: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    net.zero_grad()
    maps = net(images)
    sum(m.float().square().mean() for m in maps).backward()
    return [m.detach().float().cpu() for m in maps], [p.grad.float().cpu().clone() for p in net.parameters()]


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return ((ours - theirs).norm() / theirs.norm().clamp_min(1e-12)).item()


def speed(arch: str, size: int, batch_size: int, compiled: bool) -> dict:
    """Images per second under bfloat16 autocast: inference, inference fused, a training step; peak memory of it."""
    images = torch.randn(batch_size, 3, size, size, device="cuda")
    net = create_backbone(arch).cuda()
    row = {}
    forms = {"": net} | ({"compiled_": torch.compile(net, fullgraph=True)} if compiled else {})
    for name, form in forms.items():
        net.train()
        torch.cuda.reset_peak_memory_stats()
        row[f"{name}train_img_s"] = batch_size / seconds(lambda form=form: training_step(form, images))
        row[f"{name}train_peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        net.eval()
        row[f"{name}eval_img_s"] = batch_size / seconds(lambda form=form: inference(form, images))
    net.fuse()
    return row | {"fused_eval_img_s": batch_size / seconds(lambda: inference(net, images))}


def training_step(net: torch.nn.Module, images: torch.Tensor) -> None:
    with torch.autocast("cuda", torch.bfloat16):
        maps = net(images)
    sum(m.float().mean() for m in maps).backward()


@torch.inference_mode()
def inference(net: torch.nn.Module, images: torch.Tensor) -> None:
    with torch.autocast("cuda", torch.bfloat16):
        net(images)


def seconds(step, repeats: int = 20) -> float:
    """The median time of a step after three to warm up."""
    times = []
    for i in range(repeats + 3):
        torch.cuda.synchronize()
        start = time.perf_counter()
        step()
        torch.cuda.synchronize()
        times += [time.perf_counter() - start] if i >= 3 else []
    return sorted(times)[len(times) // 2]


if __name__ == "__main__":
    run_tool(main)

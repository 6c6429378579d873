"""Trains and tests all tasks on small data, in 10 to 15 minutes on two cores; in a clone `make demo` does so.

VAN-B0 is pretrained on single digits. Mask R-CNN and UPerNet then train on scenes of digits, once with the pretrained
VAN-B0 and once with random weights. Every step calls another tool. WORK_DIR/logs keeps the tools' output.

python tools/demo/demo.py [--work-dir work_dirs/demo] [--data data/demo]
"""

import argparse
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backbones import UserError
from ziggurat.engine.cli import Parser, run_tool

ROOT = Path(__file__).resolve().parents[2]
ARCH = "van_b0"
CONFIGS = {
    "classification": "classification/configs/demo/van_b0_digits.py",
    "detection": "detection/configs/demo/mask_rcnn_van_b0_digits.py",
    "segmentation": "segmentation/configs/demo/upernet_van_b0_digits.py",
}
SCENES = 6  # number of scenes in the report
STARTS = ("pretrained", "scratch")
MAX_THREADS = 4  # per process; more threads do not speed up such small batches
EXIT_STEP_FAILED = 1


@dataclass
class Command:
    """One call of a tool. Commands of a step run side by side, each with its share of the cores."""

    name: str  # also of the log file
    argv: list[str]


@dataclass
class Step:
    name: str
    title: str
    commands: Callable[[], list[Command]]  # called when the step starts: only then are the names of checkpoints known


def main() -> int:
    args = parse_args()
    work_dir, data = args.work_dir.absolute(), args.data.absolute()
    check_data_folder(data)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    (work_dir / "logs").mkdir(parents=True, exist_ok=True)
    (work_dir / "report.html").unlink(missing_ok=True)  # a report at the end is then from this run

    steps = plan(work_dir, data, args.device)
    print(f"Ziggurat demo: {len(steps)} steps, {cores()} cores, results in {relative(work_dir)}")
    for number, step in enumerate(steps, 1):
        print(f"  {number}  {step.title}")
    print(flush=True)

    times: dict[str, float] = {}
    for number, step in enumerate(steps, 1):
        start = time.monotonic()
        if not run_step(step, f"[{number}/{len(steps)}] {step.title}", work_dir / "logs"):
            return EXIT_STEP_FAILED
        times[step.name] = round(time.monotonic() - start, 1)
        titles = {other.name: other.title for other in steps}
        seconds = {"titles": titles, "seconds": times}
        (work_dir / "steps.json").write_text(json.dumps(seconds, indent=2) + "\n")
    print_results(work_dir)
    return 0


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work-dir", type=Path, default=Path("work_dirs/demo"), help="folder of the demo (default: work_dirs/demo)"
    )
    parser.add_argument(
        "--data", type=Path, default=Path("data/demo"), help="data of the demo, made if missing (default: data/demo)"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    return parser.parse_args()


def plan(work_dir: Path, data: Path, device: str) -> list[Step]:
    """The steps of the demo. Commands that do not need each other are in one step, and run side by side."""

    def train(task: str, run: str, **options: Any) -> Command:
        options = [f"{key}={value}" for key, value in {"data_root": data_root(data, task), **options}.items()]
        argv = ["tools/train.py", CONFIGS[task], "--work-dir", work_dir / run, "--overwrite", "--device", device]
        return command(f"train-{run}", *argv, "--cfg-options", *options)

    def fine_tune(task: str) -> list[Command]:
        weights = {"pretrained": last_checkpoint(work_dir / "classification"), "scratch": None}
        return [train(task, f"{task}-{s}", **{"model.backbone.pretrained": weights[s]}) for s in STARTS]

    def test(task: str, run: str) -> Command:
        argv = ["tools/test.py", CONFIGS[task], last_checkpoint(work_dir / run), "--work-dir", work_dir / run / "test"]
        argv += ["--out", work_dir / run / "metrics.json", "--device", device]
        return command(f"test-{run}", *argv, "--cfg-options", f"data_root={data_root(data, task)}")

    def predict(task: str) -> Command:
        run = work_dir / f"{task}-pretrained"
        scenes = [data / f"coco/val2017/{number:012d}.jpg" for number in range(1, SCENES + 1)]
        argv = ["tools/predict.py", CONFIGS[task], last_checkpoint(run), *scenes, "--out", run / "predictions"]
        return command(f"predict-{task}", *argv, "--overwrite", "--score-thr", "0.5", "--device", device)

    def extract() -> Command:
        weights = last_checkpoint(work_dir / "segmentation-pretrained")
        argv = ["tools/extract_features.py", ARCH, data / "photographs", "--pretrained", weights, "--pca"]
        return command("features", *argv, "--out", work_dir / "features", "--overwrite", "--device", device)

    def report() -> list[Command]:
        return [command("report", "tools/demo/report.py", work_dir, "--data", data)]

    return [
        Step("data", f"make the demo data in {relative(data)}", lambda: data_commands(data)),
        Step("pretrain", "pretrain VAN-B0 on single digits", lambda: [train("classification", "classification")]),
        Step("detection", "fine-tune Mask R-CNN, pretrained beside scratch", lambda: fine_tune("detection")),
        Step("segmentation", "fine-tune UPerNet, pretrained beside scratch", lambda: fine_tune("segmentation")),
        Step("test-detection", "test both detectors", lambda: [test("detection", f"detection-{s}") for s in STARTS]),
        Step(
            "test-segmentation",
            "test both segmenters",
            lambda: [test("segmentation", f"segmentation-{s}") for s in STARTS],
        ),
        Step(
            "test-classification",
            "test the classifier, extract feature maps of a photograph",
            lambda: [test("classification", "classification"), extract()],
        ),
        Step(
            "predict",
            "predict boxes, masks and classes on new scenes",
            lambda: [predict("detection"), predict("segmentation")],
        ),
        Step("report", "write the report", report),
    ]


def command(name: str, *argv) -> Command:
    return Command(name, [str(part) for part in argv])


def data_root(data: Path, task: str) -> Path:
    return data / {"classification": "digits", "detection": "coco", "segmentation": "ade"}[task]


def last_checkpoint(run: Path) -> Path:
    return Path((run / "last_checkpoint").read_text().strip())


def check_data_folder(data: Path) -> None:
    if data.exists() and any(data.iterdir()) and not has_data(data):
        raise UserError(f"{data}: the folder holds other things than demo data; name a new or empty one with --data")


def has_data(data: Path) -> bool:
    return (data / "demo_data.json").is_file()  # written last, and the folder appears only when complete


def data_commands(data: Path) -> list[Command]:
    """Makes the data, or completes those of an older version. Nothing is to be done for complete data."""
    if is_complete(data):
        return []
    return [command("data", "tools/make_demo_data.py", "--out", data, *(["--complete"] if has_data(data) else []))]


def is_complete(data: Path) -> bool:
    """Whether the data have their panoptic files too, which an older version did not write."""
    files = (data / f"coco/annotations/panoptic_{split}2017.json" for split in ("train", "val"))
    return has_data(data) and all(file.is_file() for file in files)


def run_step(step: Step, headline: str, logs: Path) -> bool:
    """Runs the step's commands side by side. If one fails, prints an error and returns False."""
    live = sys.stdout.isatty()
    if not live:
        print(headline, flush=True)
    start = time.monotonic()
    commands = step.commands()
    threads = str(max(1, min(MAX_THREADS, cores() // max(1, len(commands)))))
    env = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1"}
    env["OMP_WAIT_POLICY"] = "PASSIVE"  # threads that spin while waiting take the few cores from all others
    running: list[tuple[Command, Path, subprocess.Popen]] = []
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: stop([process for _, _, process in running]))
        for part in commands:
            log = logs / f"{part.name}.log"
            file = stack.enter_context(log.open("w"))
            print("$ python", shlex.join(part.argv), file=file, flush=True)
            process = subprocess.Popen(
                [sys.executable, *part.argv],
                cwd=ROOT,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches this process alone, which stops the others
            )
            running.append((part, log, process))
        while any(process.poll() is None for _, _, process in running):
            if any(process.poll() for _, _, process in running):
                break  # the step has failed, so the others are stopped
            if live:
                show(headline, time.monotonic() - start, running[0][1])
            time.sleep(0.2)
    failed = [(part, log, process) for part, log, process in running if process.returncode]
    seconds = time.monotonic() - start
    if live:
        print("\r\033[K" + headline, end="", flush=True)
    if failed:
        part, log, process = max(failed, key=lambda run: run[2].returncode)  # a stopped command has a negative status
        print("\n" + "\n".join(tail(log, 15)))
        print(f"error: {part.name} failed with status {process.returncode}; its log: {relative(log)}", file=sys.stderr)
        return False
    done = f"done in {seconds:.0f} s" if commands else "there already"
    print(f" {'.' * max(3, 72 - len(headline))} {done}" if live else f"      {done}", flush=True)
    return True


def show(headline: str, seconds: float, log: Path) -> None:
    """Prints one line over the line before: the step, its time, and the last line of its log."""
    width = os.get_terminal_size().columns
    clock = f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
    last = "".join(c for c in (tail(log, 1) or [""])[-1] if c.isprintable())
    print("\r\033[K" + f"{headline}  {clock}  {last}"[: width - 1], end="", flush=True)


def tail(log: Path, lines: int) -> list[str]:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 16000))
        text = file.read().decode(errors="replace").replace("\r", "\n")
    return [line for line in text.splitlines() if line.strip()][-lines:]


def stop(processes: list[subprocess.Popen]) -> None:
    """Ends running processes and the workers that they started: by SIGTERM, and by SIGKILL after ten seconds."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + 10
    for process in running:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def cores() -> int:
    """Number of cores that this process may use, by the affinity mask and a container's limit."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        count = min(count, max(1, round(int(quota) / int(period))))
    return count


def relative(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def print_results(work_dir: Path) -> None:
    report = json.loads((work_dir / "report.json").read_text())
    rows = [
        ("Mask R-CNN, box AP50", "detection", "bbox_AP50"),
        ("Mask R-CNN, mask AP50", "detection", "segm_AP50"),
        ("UPerNet, mIoU", "segmentation", "mIoU"),
    ]
    print(f"\n{'held-out results':<26}{'pretrained':>12}{'scratch':>12}")
    print(f"{'VAN-B0, top-1':<26}{report['classification']['top1']:>10.1f} %{'':>12}")
    for title, task, metric in rows:
        pretrained, scratch = (report[task][start][metric] for start in STARTS)
        print(f"{title:<26}{pretrained:>12.3f}{scratch:>12.3f}")
    print(f"\n{report['seconds']['total']:.0f} s in all. Open {relative(work_dir / 'report.html')}")


if __name__ == "__main__":
    run_tool(main)

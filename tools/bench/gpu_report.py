"""What this project does on a GPU, measured in at most eight minutes: `make gpu-report` calls it.

python tools/bench/gpu_report.py [--out DIR] [--seconds 480] [--wheels DIR | --site DIR] [--data data/demo]
python tools/bench/gpu_report.py --small          a dry run on a CPU, in about a minute

Sections: every operator of mmcv_ops against its CPU answer; the CUDA tests; training steps of each task in bfloat16 and
float16, one process with NCCL; torch.compile of one arch of each family; speed and memory of whole detectors and
segmentors; speed and memory beside onedl-mmpretrain's classes and torchvision's Swin-T and ConvNeXt-T. Each section is
a process of its own with a share of the time. A section that fails or runs out of time leaves its rows and a one-line
error, and the other sections run. The files gpu_report.json and gpu_report.md in OUT are written anew after each
section. The exit status is 1 if a section failed.

A machine without a network needs wheels beside its own PyTorch. On a machine with a network, `make gpu-wheels` collects
them in the folder wheels/. --wheels installs the wheels into a temporary folder. --site names a folder with the wheels
installed. --data is the demo data (tools/make_demo_data.py); if missing, a few images
of that kind are made. Without a network:

python tools/bench/gpu_report.py --wheels wheels --data data/demo --out OUT
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# Section -> the largest part of the whole time that the section may take. Time that is left goes to later sections.
SHARES = {"operators": 0.1, "tests": 0.25, "training": 0.2, "compile": 0.15, "models": 0.2, "speed": 1.0}
HIDES = """
import sys
from importlib import metadata

sys.modules["{package}"] = None
installed = metadata.distribution


def distribution(name):
    if name == "{package}":
        raise metadata.PackageNotFoundError(name)
    return installed(name)


metadata.distribution = distribution
"""


def main() -> int:
    args = parse_args()
    began = time.monotonic()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        site, hidden = args.site, hide("transformers", Path(folder) / "hidden")
        if args.wheels:
            site = Path(folder) / "site"
            install(args.wheels, site)
        report: dict[str, Any] = {"small": args.small, "sections": {}}
        for name in args.sections:
            left = args.seconds - (time.monotonic() - began)
            limit = min(left, SHARES[name] * args.seconds)
            rows = Path(folder) / f"{name}.jsonl"
            report["sections"][name] = run_section(name, limit, rows, [hidden, *([site] if site else [])], args)
            report["machine"] = read_rows(rows, "machine") or report.get("machine")
            write(report, args.out)
            found = report["sections"][name]
            print(f"{name:<10} {found['status']}, {found['seconds']:.0f} s, {len(found['rows'])} rows", flush=True)
    print(f"{time.monotonic() - began:.0f} s; {args.out / 'gpu_report.md'}")
    return any(section["status"] == "failed" for section in report["sections"].values())


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/benchmarks/gpu", help="folder of the two files")
    parser.add_argument("--seconds", type=float, default=480, help="for all sections together (default: 480)")
    parser.add_argument("--sections", nargs="+", choices=SHARES, default=list(SHARES), metavar="NAME")
    parser.add_argument("--small", action="store_true", help="tiny sizes, on a GPU or without: a dry run")
    parser.add_argument("--data", type=Path, default=ROOT / "data/demo", help="the demo data (default: data/demo)")
    wheels = parser.add_mutually_exclusive_group()
    wheels.add_argument("--wheels", type=Path, metavar="DIR", help="wheels to use beside this Python's packages")
    wheels.add_argument("--site", type=Path, metavar="DIR", help="a folder with such packages, installed already")
    return parser.parse_args()


def install(wheels: Path, site: Path) -> None:
    found = [str(path) for path in sorted(wheels.glob("*.whl"))]
    if not found:
        sys.exit(f"error: no wheels in {wheels}")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(site)]
    subprocess.run([*pip, *found], check=True)


def hide(package: str, folder: Path) -> Path:
    """A folder that hides a package from Python: onedl-mmpretrain imports without transformers, not with release 5."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HIDES.format(package=package))
    return folder


def run_section(name: str, limit: float, rows: Path, paths: list[Path], args: argparse.Namespace) -> dict[str, Any]:
    """Runs a section in a process of its own, which finds the project and ``paths`` before other packages.

    Returns:
        ``status`` ("done", "failed", or "stopped" at the time limit), ``seconds``, ``rows``, and ``error`` if any.
    """
    began, error, status = time.monotonic(), None, "done"
    if limit < 5:
        return {"status": "stopped", "seconds": 0.0, "rows": [], "error": "no time was left"}
    places = [str(ROOT), *map(str, paths), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(places), "GPU_REPORT_ENDS": str(time.time() + limit - 3)}
    command = [sys.executable, str(Path(__file__).with_name("gpu_sections.py")), name, str(rows), str(args.data)]
    if args.small:
        command.append("--small")
        env |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log, start_new_session=True)
        try:
            if process.wait(timeout=limit):
                log.seek(0)
                lines = [line.strip() for line in log.read().splitlines() if line.strip()]
                status, error = "failed", lines[-1][:300] if lines else f"ended with status {process.returncode}"
        except subprocess.TimeoutExpired:
            status, error = "stopped", f"the time was over after {limit:.0f} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 9)
                process.wait()
    found = {"status": status, "seconds": round(time.monotonic() - began, 1), "rows": read_rows(rows, "row")}
    if found["status"] == "done" and any("error" in row for row in found["rows"]):
        found["status"] = "failed"
    return found | ({"error": error} if error else {})


def read_rows(path: Path, kind: str) -> Any:
    """The rows that a section wrote, or its line about the machine. A row cut off at the time limit is left out."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    found = [entry[kind] for entry in found if kind in entry]
    return found if kind == "row" else (found[-1] if found else None)


def write(report: dict[str, Any], out: Path) -> None:
    """Writes both files. Each replaces the old one as a whole."""
    for name, text in (("gpu_report.json", json.dumps(report, indent=1) + "\n"), ("gpu_report.md", tables(report))):
        new = out / f".{name}.tmp"
        new.write_text(text)
        new.replace(out / name)


def tables(report: dict[str, Any]) -> str:
    """The report as Markdown: the machine, then a table for each section."""
    machine = report.get("machine") or {}
    lines = ["# GPU report", "", "Made by `make gpu-report`. " + ", ".join(f"{k} {v}" for k, v in machine.items()), ""]
    if report.get("note"):
        lines += [report["note"], ""]
    if report["small"]:
        lines += ["A dry run with tiny sizes: its figures mean nothing.", ""]
    for name, section in report["sections"].items():
        lines += [f"## {name}: {section['status']}, {section['seconds']:.0f} s", ""]
        if section.get("error"):
            lines += [f"{section['error']}", ""]
        columns = list(dict.fromkeys(key for row in section["rows"] for key in row))
        if columns:
            lines += ["| " + " | ".join(columns) + " |", "|" + "-|" * len(columns)]
            lines += ["| " + " | ".join(cell(row.get(key)) for key in columns) + " |" for row in section["rows"]]
            lines += [""]
    return "\n".join(lines)


def cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return "" if value is None else str(value).replace("|", "/").replace("\n", " ")


if __name__ == "__main__":
    sys.exit(main())

"""Kills an extraction of features by Ray again and again, its actors and the command, and compares its store.

python tools/bench/benchmark_ray.py [--images 400] [--out docs/benchmarks/features/ray_cpu.json]

The other store is that of the plain engine. Both take one image at a time, so that no sum has another order. Only
processes that this command started are killed.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from benchmark_features import write_images

from backbones.files import write_json
from backbones.store import FeatureStore
from backbones.store.layout import INDEX, import_pyarrow, parts_of
from ziggurat.engine.cli import Parser, output_folder, run_tool
from ziggurat.engine.machine import machine
from ziggurat.engine.tool_options import count

ROOT = Path(__file__).resolve().parent.parent.parent
COMMAND = [sys.executable, str(ROOT / "tools/extract_features.py"), "van_b0", "mixed", "--form", "store"]
COMMAND += ["--pool", "mean", "--stages", "2,3", "--device", "cpu", "--batch-size", "1", "--shard-size", "8"]
DRIVER_KILLS, ACTOR_KILLS = 3, 2  # of the command, and of actors in each of its runs


def main() -> None:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=count, default=400, help="images of the run (default: 400)")
    parser.add_argument("--out", type=Path, help="JSON file to write the figures to")
    args = parser.parse_args()
    if args.out:
        output_folder(args.out.parent)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_images(place / "mixed", args.images)
        (place / "mixed/damaged.jpg").write_bytes(b"\xff\xd8\xff")
        how = {"cwd": place, "env": os.environ | {"OMP_NUM_THREADS": "1"}, "stdout": subprocess.DEVNULL}
        subprocess.run([*COMMAND, "--out", "plain", "--workers", "0"], check=True, **how)
        kills = killed_run([*COMMAND, "--out", "ray", "--engine", "ray", "--ray-workers", "2"], place / "ray", how)
        found = {**kills, **compared(place / "plain", place / "ray")}
    content = {"machine": machine(torch.device("cpu"), "ray", "pyarrow"), "images": args.images, **found}
    print(content)
    if args.out:
        write_json(args.out, content)


def killed_run(command: list[str], store: Path, how: dict[str, Any]) -> dict[str, int]:
    """Gives the command until it ends by itself. Returns how often it and its actors were killed."""
    numbers, actors, drivers = random.Random(0), 0, 0
    while True:
        driver, in_this_run, before = subprocess.Popen(command, **how), 0, len(parts_of(store))
        while driver.poll() is None:
            time.sleep(numbers.uniform(0.2, 0.6))
            if len(parts_of(store)) < before + 3:
                continue
            if in_this_run < ACTOR_KILLS and (victims := actors_of(driver.pid)):
                os.kill(numbers.choice(victims), signal.SIGKILL)
                in_this_run, actors, before = in_this_run + 1, actors + 1, len(parts_of(store))
            elif in_this_run == ACTOR_KILLS and drivers < DRIVER_KILLS:
                driver.kill()
                drivers += 1
                break
        if driver.wait() == 0:
            return {"actor_kills": actors, "driver_kills": drivers}


def actors_of(driver: int) -> list[int]:
    """The processes below the command that are actors of Ray Data."""
    parents, names = {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
            names[int(path.name)] = (path / "cmdline").read_bytes()
        except OSError:
            continue
    found, size = {driver}, 0
    while size < len(found):
        size = len(found)
        found |= {child for child, parent in parents.items() if parent in found}
    return sorted(one for one in found if b"ray::MapWorker" in names.get(one, b""))


def compared(plain: Path, other: Path) -> dict[str, int]:
    """How the rows of two stores differ."""
    one, two, pa = FeatureStore(plain), FeatureStore(other), import_pyarrow()
    two.verify()
    tables = [pa.parquet.read_table(part, columns=["image", "reason"]) for part in parts_of(other)]
    rows = [row["image"] for table in tables for row in table.to_pylist() if row["reason"] is None]
    same = [all(torch.equal(item[stage], two[two.find(item["name"])][stage]) for stage in one.stages) for item in one]
    return {
        "rows": len(rows),
        "lost": len(set(one.names()) - set(rows)),
        "double": len(rows) - len(set(rows)),
        "equal": sum(same),
        "unreadable": len(two.unreadable),
        "files_left": sum(1 for path in other.rglob("*.tmp")),
        "shards": len(list((other / INDEX).iterdir())),
    }


if __name__ == "__main__":
    run_tool(main)

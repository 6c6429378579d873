"""A store that Ray fills has each image once, equal to the plain engine's, with actors that are killed too."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backbones import UserError
from backbones.store import FeatureStore
from backbones.store.lock import InUse
from ziggurat.engine.features.on_ray import Plan, count_of, fault_of, parts_of, when_free
from ziggurat.engine.features.sources import FileImage
from ziggurat.root import ROOT

PLAN = Plan({"weights": None}, "cpu", "s", "run", "fp32", {}, None, None, 0)


@pytest.mark.parametrize(("count", "actors", "most"), [(1, 4, None), (401, 2, None), (401, 2, 8), (40_000, 1, None)])
def test_parts_have_each_image_once(count, actors, most):
    images = [FileImage(f"{i}", f"{i}") for i in range(count)]
    parts = parts_of(images, actors, most)
    found = [pickle.loads(part["images"]) for part in parts]
    assert [image.name for some in found for image in some] == [image.name for image in images]
    assert [part["part"] for part in parts] == list(range(len(parts))) and all(found)
    assert max(map(len, found)) <= min(most or 4096, 4096)
    assert all(os.path.isabs(image.path) for some in found for image in some)
    assert parts_of([], actors, most) == []


@pytest.mark.parametrize(
    ("resources", "device", "workers", "actors", "is_local", "expected"),
    [
        ({"CPU": 8.0}, "cpu", 0, None, True, 8),
        ({"CPU": 8.0}, "cpu", 3, None, True, 2),
        ({"CPU": 1.0}, "cpu", 4, None, False, 1),
        ({"CPU": 8.0}, "cpu", 0, 20, True, 20),
        ({"CPU": 8.0, "GPU": 4.0}, "cuda", 4, None, True, 4),
        ({"CPU": 8.0}, "cuda", 4, 3, False, 3),  # a cluster may grow
        ({"CPU": 8.0}, "cuda", 4, None, True, "Ray has no GPU; allowed: cpu"),
        ({"CPU": 8.0, "GPU": 1.0}, "cuda", 4, 2, True, "--ray-workers is 2; allowed: integers from 1 to 1"),
    ],
)
def test_actors_are_as_many_as_there_is_room_for(resources, device, workers, actors, is_local, expected):
    plan = PLAN._replace(device=device, workers=workers)
    if isinstance(expected, int):
        assert count_of(resources, plan, actors, is_local) == expected
        return
    with pytest.raises(UserError, match=expected):
        count_of(resources, plan, actors, is_local)


def test_faults_of_actors_are_one_line():
    lines = "ActorDiedError: ...\n  File x\n"
    assert fault_of(f"{lines}backbones.errors.UserError: s is full; allowed: t\n") == "s is full; allowed: t"
    assert fault_of(f"{lines}OSError: [Errno 28] No space left on device: 's'") == "No space left on device: 's'"
    assert fault_of(f"{lines}ZeroDivisionError: division by zero") == ""


def test_a_store_in_use_is_waited_for():
    left = [InUse("s is in use"), InUse("s is in use")]

    def make():
        if left:
            raise left.pop()
        return "writer"

    assert when_free(make) == "writer"
    left[:] = [InUse("s is in use")] * 5
    with pytest.raises(InUse):
        when_free(make, seconds=-1)


def descendants(process):
    """The processes below a process."""
    parents = {}
    for path in Path("/proc").iterdir():
        try:
            parents[int(path.name)] = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, ValueError):
            continue
    found, size = {process}, 0
    while size < len(found):
        size = len(found)
        found |= {child for child, parent in parents.items() if parent in found}
    return found - {process}


def is_actor(process):
    try:
        return b"ray::MapWorker" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


def test_a_run_whose_actor_and_driver_are_killed_loses_nothing(tmp_path):
    pytest.importorskip("ray")
    (tmp_path / "images").mkdir()
    for i in range(60):
        pixels = np.random.default_rng(i).integers(0, 256, (64 + 32 * (i % 2), 64, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"images/{i}.png")
    (tmp_path / "images/bad.png").write_bytes(b"cut")
    tool = [sys.executable, ROOT / "tools/extract_features.py", "van_b0", "images", "--form", "store", "--pool", "mean"]
    tool += ["--stages", "3", "--device", "cpu", "--batch-size", "1", "--shard-size", "2"]
    how = {"cwd": tmp_path, "env": os.environ | {"OMP_NUM_THREADS": "1"}}
    subprocess.run([*tool, "--out", "plain", "--workers", "0"], check=True, **how)
    ray = [*tool, "--out", "s", "--engine", "ray", "--ray-workers", "2"]
    parts = tmp_path / "s/index"
    driver = subprocess.Popen(ray, **how)
    killed = 0
    while driver.poll() is None and killed < 2:
        time.sleep(0.1)
        if len(list(parts.glob("*.parquet"))) > 3 * killed:
            victims = [process for process in descendants(driver.pid) if is_actor(process)]
            if victims:
                os.kill(victims[0], signal.SIGKILL)
                killed += 1
    driver.kill()
    driver.wait()
    assert killed == 2 and len(FeatureStore(tmp_path / "s")) < 60
    subprocess.run(ray, check=True, **how)
    plain, store = FeatureStore(tmp_path / "plain"), FeatureStore(tmp_path / "s")
    assert len(store) == 60 and set(store.names()) == set(plain.names()) and set(store.unreadable) == {"images/bad.png"}
    for item in plain:
        assert (item["stage3"] == store[store.find(item["name"])]["stage3"]).all()

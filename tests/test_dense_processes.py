"""Two nodes of one process each train a detector or segmenter as one process does with the same images a step."""

import json
import os
import socket
import subprocess
import sys

import dense_data
import numpy as np
import pytest
from conftest import ROOT
from dense_processes import CASES, PROCESSES, STEPS, train


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    dense_data.write_coco(folder / "coco", {"train": 5, "val": 1})
    dense_data.write_masks(folder / "ade", {"training": 5, "validation": 1})
    return folder


@pytest.fixture(scope="module")
def losses(folder):
    """For each leaf the losses of both processes, which torchrun's rendezvous joins."""
    with socket.socket() as free:
        free.bind(("", 0))
        port = str(free.getsockname()[1])
    common = dict(CUDA_VISIBLE_DEVICES="", NNODES="2", MASTER_ADDR="127.0.0.1", PORT=port)
    common["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tools/reliability")])
    command = [
        sys.executable,
        str(ROOT / "tools/launch/launch.py"),
        "1",
        str(ROOT / "tests/dense_processes.py"),
        folder,
    ]
    nodes = [subprocess.Popen(command, env=os.environ | common | {"NODE_RANK": rank}) for rank in "01"]
    assert [node.wait(timeout=600) for node in nodes] == [0, 0]
    return [json.loads((folder / f"losses_{rank}.json").read_text()) for rank in range(PROCESSES)]


@pytest.mark.parametrize("leaf", CASES, ids=lambda leaf: leaf.split("/")[-1].partition("_van")[0])
def test_two_nodes_are_one_process(leaf, folder, losses, cut_depths):
    cut_depths("van_b0", (1, 1, 1, 1))
    ours = np.mean([each[leaf] for each in losses], axis=0)
    alone = np.reshape(train(leaf, folder), (STEPS, -1)).mean(1)
    assert len(ours) == STEPS and alone.std() > 1e-3
    np.testing.assert_allclose(ours, alone, rtol=1e-4)

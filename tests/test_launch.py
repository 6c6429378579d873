"""The launch scripts take mm's arguments, pass on every word unchanged, and train and test in several processes.

After distributed training all processes hold the same weights. A distributed test gives the figures of a single
process.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from make_demo_data import make_demo_data

ROOT = Path(__file__).resolve().parent.parent
TASKS = ("classification", "detection", "segmentation")
DEMO = {
    "classification": ROOT / "classification/configs/demo/van_b0_digits.py",
    "detection": ROOT / "detection/configs/demo/mask_rcnn_van_b0_digits.py",
    "segmentation": ROOT / "segmentation/configs/demo/upernet_van_b0_digits.py",
}
DATA = {"classification": "digits", "detection": "coco", "segmentation": "ade"}
LAUNCH_VARIABLES = {"NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "PORT", "GPUS", "GPUS_PER_NODE", "SRUN_ARGS"}
LAUNCH_VARIABLES |= {"MAX_RESTARTS"}

# Says how it was started; fails or dies where asked to.
PROBE = """
import json, os, signal, sys
rank = os.environ["RANK"]
if "--die" in sys.argv and rank == "1":
    os.kill(os.getpid(), signal.SIGKILL)
names = ("WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS")
started = dict({name: os.environ[name] for name in names}, arguments=sys.argv[1:])
open(f"{os.environ['ANSWERS']}/{rank}.json", "w").write(json.dumps(started))
sys.exit(2 if "--fail" in sys.argv else 0)
"""

# Stands in for the Python that a script starts: writes down its arguments, one a line.
NOTE_ARGUMENTS = """#!/bin/sh
printf '%s\\n' "$@" > "$ANSWERS/arguments"
"""

# Writes down what srun was asked for and starts the tasks, as Slurm would on one node.
SRUN = """#!/usr/bin/env python3
import json, os, subprocess, sys
start = next(i for i, word in enumerate(sys.argv) if word.endswith("python"))
open(os.environ["ANSWERS"] + "/srun.json", "w").write(json.dumps(sys.argv[1:]))
count = next(word.split("=")[1] for word in sys.argv if word.startswith("--ntasks="))
facts = dict(SLURM_NTASKS=count, SLURM_JOB_ID=str(os.getpid()), SLURM_JOB_NODELIST="localhost")
tasks = [
    subprocess.Popen(sys.argv[start:], env=dict(os.environ, **facts, SLURM_PROCID=str(i), SLURM_LOCALID=str(i)))
    for i in range(int(count))
]
sys.exit(max(task.wait() for task in tasks))
"""

# Each process writes down its weights before and after training, and which images it saw.
RECORD = """
import json, os
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

def weights(runner):
    tensors = [value.double().flatten() for value in runner.model.parameters()]
    return torch.cat(tensors).detach().clone()

@HOOKS.register_module()
class Record(Hook):
    def before_train(self, runner):
        self.first = weights(runner)
    def after_train(self, runner):
        facts = dict(first=self.first, last=weights(runner), wrapper=type(runner.model).__name__)
        facts["loss"] = runner.message_hub.get_scalar("train/loss").data[0].tolist()
        torch.save(facts, f"{os.environ['ANSWERS']}/{get_rank()}.pt")
"""

# A wrapper of a user's own, with an argument of its own.
WRAPPER = """
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODEL_WRAPPERS

@MODEL_WRAPPERS.register_module()
class NotedDistributedDataParallel(MMDistributedDataParallel):
    def __init__(self, *args, note, **kwargs):
        super().__init__(*args, **kwargs)
        assert note == "kept"
"""

CONFIG = """
_base_ = [{base!r}]
custom_imports = dict(imports=[{task!r}, "record_weights"])
custom_hooks = [dict(type="mmengine.Record")]
data_root = {data!r}
train_cfg = dict(_delete_=True, type="IterBasedTrainLoop", max_iters=2, val_interval=2)
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, sampler=dict(type="InfiniteSampler"))
val_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False)
param_scheduler = []
checkpoint = dict(_delete_=True, type="CheckpointHook", by_epoch=False, interval=2)
default_hooks = dict(checkpoint=checkpoint, logger=dict(interval=1))
log_processor = dict(window_size=1, by_epoch=False)
"""


def launch(script, *arguments, answers, cwd=ROOT, path=None, **variables):
    """Runs a launch script in a clean environment and returns its CompletedProcess."""
    environment = {name: value for name, value in os.environ.items() if name not in LAUNCH_VARIABLES}
    environment.pop("OMP_NUM_THREADS", None)
    environment |= {"PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": "", "ANSWERS": str(answers)}
    if path:
        environment["PATH"] = f"{path}{os.pathsep}{environment['PATH']}"
    return subprocess.run(
        ["bash", str(ROOT / script), *map(str, arguments)],
        cwd=cwd, env=environment | variables, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def launch_probe(tmp_path, *arguments, processes=2, **variables):
    program = tmp_path / "probe.py"
    program.write_text(PROBE)
    environment = {name: value for name, value in os.environ.items() if name not in LAUNCH_VARIABLES}
    environment.pop("OMP_NUM_THREADS", None)
    environment |= {"CUDA_VISIBLE_DEVICES": "", "ANSWERS": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, str(ROOT / "tools/launch/launch.py"), str(processes), str(program), *arguments],
        env=environment | variables, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    started = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("*.json"))]
    return result, started


def executable(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


# What the scripts pass on


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("tool", "files"), [("train", ["my config.py"]), ("test", ["my config.py", "my weights.pth"])])
def test_dist_scripts_pass_on_every_word_as_given(task, tool, files, tmp_path):
    python = executable(tmp_path / "python", NOTE_ARGUMENTS)
    options = ["--work-dir", "a b", "--cfg-options", "data_root=/my data/*", "text='$HOME'"]
    script = f"{task}/dist_{tool}.sh"
    result = launch(script, *files, 3, *options, answers=tmp_path, cwd=tmp_path, PYTHON=str(python))
    assert result.returncode == 0, result.stderr
    launcher, *words = (tmp_path / "arguments").read_text().splitlines()
    assert launcher == str(ROOT / "tools/launch/launch.py")
    assert words == ["3", str(ROOT / f"tools/{tool}.py"), *files, *options, "--launcher", "pytorch"]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("tool", "files"), [("train", ["my config.py"]), ("test", ["my config.py", "my weights.pth"])])
def test_slurm_scripts_ask_srun_as_mm_does(task, tool, files, tmp_path):
    executable(tmp_path / "bin/srun", SRUN)
    python = executable(tmp_path / "python", NOTE_ARGUMENTS)
    script, options = f"{task}/slurm_{tool}.sh", ["--work-dir", "a b"]
    variables = dict(PYTHON=str(python), GPUS="2", CPUS_PER_TASK="3", SRUN_ARGS="--quotatype=auto --async")
    result = launch(script, "part", "my job", *files, *options, answers=tmp_path, path=tmp_path / "bin", **variables)
    assert result.returncode == 0, result.stderr
    asked = json.loads((tmp_path / "srun.json").read_text())
    command = [str(python), "-u", str(ROOT / f"tools/{tool}.py"), *files, *options, "--launcher", "slurm"]
    assert asked[-len(command) :] == command
    assert asked[: -len(command)] == [
        "-p", "part", "--job-name=my job", "--gres=gpu:2", "--ntasks=2", "--ntasks-per-node=2", "--cpus-per-task=3",
        "--kill-on-bad-exit=1", "--quotatype=auto", "--async",
    ]  # fmt: skip


def test_slurm_asks_for_eight_gpus_a_node_by_default(tmp_path):
    executable(tmp_path / "bin/srun", SRUN)
    python = executable(tmp_path / "python", NOTE_ARGUMENTS)
    arguments = ("detection/slurm_train.sh", "part", "job", "c.py")
    launch(*arguments, answers=tmp_path, path=tmp_path / "bin", PYTHON=str(python), GPUS="16")
    asked = json.loads((tmp_path / "srun.json").read_text())
    assert {"--gres=gpu:8", "--ntasks=16", "--ntasks-per-node=8", "--cpus-per-task=5"} <= set(asked)


@pytest.mark.parametrize("options", [["--resume", "auto"], ["--resume=auto"]])
def test_restarts_need_a_training_that_goes_on(tmp_path, options):
    """The stand-in fails each time; without --resume auto nothing is started."""
    (tmp_path / "train.py").write_text("import os, sys; print(os.environ['TORCHELASTIC_RESTART_COUNT']); sys.exit(2)")
    command = [sys.executable, str(ROOT / "tools/launch/launch.py"), "1", str(tmp_path / "train.py")]
    environment = dict(os.environ, MAX_RESTARTS="2", CUDA_VISIBLE_DEVICES="")
    for words, counts, error in ((options, "0\n1\n2\n", ""), (["--resume"], "", "MAX_RESTARTS=2 needs --resume auto")):
        done = subprocess.run([*command, *words], env=environment, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stdout) == (2, counts) and error in done.stderr


# What they refuse


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("detection/dist_train.sh", [], "2 arguments are needed, 0 given"),
        ("detection/dist_train.sh", ["config.py"], "2 arguments are needed, 1 given"),
        ("detection/dist_train.sh", ["config.py", "two"], "GPUS must be a number from 1 up, not 'two'"),
        ("detection/dist_train.sh", ["config.py", "0"], "GPUS must be a number from 1 up, not '0'"),
        ("segmentation/dist_test.sh", ["config.py", "2"], "3 arguments are needed, 2 given"),
        ("segmentation/dist_test.sh", ["config.py", "x.pth", "-1"], "GPUS must be a number from 1 up, not '-1'"),
        ("classification/dist_test.sh", ["van_b0.in1k"], "2 arguments are needed, 1 given"),
        ("classification/dist_test.sh", ["van_b0.in1k", "x"], "GPUS must be a number from 1 up, not 'x'"),
        ("classification/slurm_train.sh", ["part", "job"], "3 arguments are needed, 2 given"),
        ("classification/slurm_test.sh", ["part", "job", "config.py"], "4 arguments are needed, 3 given"),
    ],
)
def test_missing_and_wrong_arguments_get_the_usage(script, arguments, message, tmp_path):
    result = launch(script, *arguments, answers=tmp_path)
    assert result.returncode == 2
    assert result.stderr.splitlines()[0] == f"error: {message}"
    assert f"bash {script} " in result.stderr


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (dict(NNODES="many"), "NNODES=many; allowed: a number from 1 up"),
        (dict(NNODES="2"), "NNODES=2 needs MASTER_ADDR"),
        (dict(NNODES="2", MASTER_ADDR="127.0.0.1", NODE_RANK="2"), "NODE_RANK=2 with NNODES=2; allowed: 0 to 1"),
        (dict(PORT="70000"), "PORT=70000 cannot be used"),
    ],
)
def test_wrong_variables_are_named(variables, message, tmp_path):
    result, started = launch_probe(tmp_path, **variables)
    assert (result.returncode, started) == (2, [])
    assert result.stderr.startswith(f"error: {message}") and result.stderr.count("\n") == 1


def test_a_port_in_use_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result, started = launch_probe(tmp_path, PORT=str(port))
    assert (result.returncode, started) == (2, [])
    assert result.stderr.startswith(f"error: PORT={port} cannot be used")


def test_more_gpus_than_present_are_refused_and_cpu_processes_are_not(monkeypatch, capsys):
    from tools.launch import launch as launcher

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for arguments in ([], ["--device", "cuda"]):
        with pytest.raises(SystemExit) as stop:
            launcher.check_gpus(4, arguments)
        assert stop.value.code == 2
        assert capsys.readouterr().err.startswith("error: 4 GPUs asked for, 2 present; allowed: 1 to 2")
    launcher.check_gpus(2, [])
    launcher.check_gpus(4, ["--device", "cpu"])
    launcher.check_gpus(4, ["--device=cpu"])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    launcher.check_gpus(4, [])


# How the processes run


def test_two_processes_share_a_free_port_and_use_one_thread_each(tmp_path):
    result, started = launch_probe(tmp_path, "a b", "*")
    assert result.returncode == 0, result.stderr
    assert [process["LOCAL_RANK"] for process in started] == ["0", "1"]
    assert len({process["MASTER_PORT"] for process in started}) == 1
    for process in started:
        assert process["arguments"] == ["a b", "*"]
        assert (process["WORLD_SIZE"], process["MASTER_ADDR"], process["OMP_NUM_THREADS"]) == ("2", "127.0.0.1", "1")


def test_port_and_threads_can_be_chosen(tmp_path):
    with socket.socket() as free:
        free.bind(("", 0))
        port = str(free.getsockname()[1])
    result, started = launch_probe(tmp_path, PORT=port, OMP_NUM_THREADS="2", processes=1)
    assert result.returncode == 0, result.stderr
    assert (started[0]["MASTER_PORT"], started[0]["OMP_NUM_THREADS"]) == (port, "2")


def test_two_nodes_form_one_group(tmp_path):
    program = tmp_path / "join.py"
    program.write_text(
        "import os, torch, torch.distributed as dist\n"
        "dist.init_process_group('gloo')\n"
        "total = torch.tensor(float(dist.get_rank() + 1))\n"
        "dist.all_reduce(total)\n"
        "open(f\"{os.environ['ANSWERS']}/{dist.get_rank()}\", 'w').write(str(total.item()))\n"
        "dist.destroy_process_group()\n"
    )
    with socket.socket() as free:
        free.bind(("", 0))
        port = str(free.getsockname()[1])
    common = {"CUDA_VISIBLE_DEVICES": "", "ANSWERS": str(tmp_path), "PORT": port}
    common |= {"NNODES": "2", "MASTER_ADDR": "127.0.0.1"}
    command = [sys.executable, str(ROOT / "tools/launch/launch.py"), "1", str(program)]
    nodes = [
        subprocess.Popen(
            command,
            env=os.environ | common | {"NODE_RANK": rank},
        )
        for rank in "01"
    ]
    assert [node.wait(timeout=120) for node in nodes] == [0, 0]
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["3.0", "3.0"]


def test_a_failing_process_gives_its_status_and_no_traceback(tmp_path):
    result, _ = launch_probe(tmp_path, "--fail")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr and "elastic" not in result.stderr


def test_a_killed_process_is_named(tmp_path):
    result, _ = launch_probe(tmp_path, "--die")
    assert result.returncode == 128 + 9
    assert "error: process 1 was ended by SIGKILL" in result.stderr


# Real training


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_demo_data(
        tmp_path_factory.mktemp("data") / "demo", num_train=8, num_val=3, digits_train=20, digits_val=11, size=64
    )


def write_config(folder, task, data):
    (folder / "record_weights.py").write_text(RECORD)
    config = folder / f"short_{task}.py"
    config.write_text(CONFIG.format(base=str(DEMO[task]), task=task, data=str(data / DATA[task])))
    return config


def assert_equal_and_trained(answers):
    one, two = (torch.load(answers / f"{rank}.pt") for rank in range(2))
    assert "DistributedDataParallel" in one["wrapper"]
    assert torch.equal(one["first"], two["first"])
    assert torch.equal(one["last"], two["last"])
    assert torch.isfinite(one["last"]).all() and not torch.equal(one["first"], one["last"])


def single(tool, *arguments, folder):
    environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(ROOT / f"tools/{tool}.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("task", TASKS)
def test_two_processes_end_with_equal_weights_and_test_as_one_does(task, data, tmp_path):
    config, run = write_config(tmp_path, task, data), tmp_path / "run"
    variables = dict(answers=tmp_path, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    result = launch(f"{task}/dist_train.sh", config, 2, "--work-dir", run, **variables)
    assert result.returncode == 0, result.stderr
    assert_equal_and_trained(tmp_path)

    checkpoint = run / "iter_2.pth"
    options = ("--work-dir", tmp_path / "test", "--out")
    result = launch(f"{task}/dist_test.sh", config, checkpoint, 2, *options, tmp_path / "two.json", **variables)
    assert result.returncode == 0, result.stderr
    result = single("test", config, checkpoint, *options, tmp_path / "one.json", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    one, two = (json.loads((tmp_path / f"{count}.json").read_text()) for count in ("one", "two"))
    assert one and {name for name in one if one[name] is None} == {name for name in two if two[name] is None}
    found = ({name: value for name, value in part.items() if value is not None} for part in (one, two))
    assert next(found) == pytest.approx(next(found), rel=1e-6, nan_ok=True)


def test_a_configs_own_wrapper_is_used(data, tmp_path):
    config, run = write_config(tmp_path, "classification", data), tmp_path / "run"
    (tmp_path / "record_weights.py").write_text(RECORD + WRAPPER)
    wrapper = dict(type="NotedDistributedDataParallel", note="kept", find_unused_parameters=True)
    config.write_text(config.read_text() + f"model_wrapper_cfg = {wrapper!r}\n")
    variables = dict(answers=tmp_path, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    result = launch("classification/dist_train.sh", config, 2, "--work-dir", run, **variables)
    assert result.returncode == 0, result.stderr
    assert_equal_and_trained(tmp_path)
    assert torch.load(tmp_path / "0.pt")["wrapper"] == "NotedDistributedDataParallel"
    names = torch.load(run / "iter_2.pth", weights_only=True)["state_dict"]
    assert names and all(name.startswith(("backbone.", "head.")) for name in names)


def test_slurm_tasks_end_with_equal_weights(data, tmp_path):
    executable(tmp_path / "bin/srun", SRUN)
    config = write_config(tmp_path, "classification", data)
    result = launch(
        "classification/slurm_train.sh", "part", "job", config, "--work-dir", tmp_path / "run",
        answers=tmp_path, cwd=tmp_path, path=tmp_path / "bin", PYTHONPATH=str(tmp_path), GPUS="2",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert_equal_and_trained(tmp_path)


def test_a_user_error_in_every_process_ends_with_status_2(tmp_path):
    result = launch("detection/dist_train.sh", "no_such_config.py", 2, answers=tmp_path, cwd=tmp_path)
    assert result.returncode == 2
    lines = result.stderr.splitlines()
    assert lines and all(line.startswith("error: ") and "no_such_config.py" in line for line in lines)

"""The GPU report in its small form, on the machine of the tests: its sections, its time limit, and its errors."""

import json
import os
import subprocess
import sys

import pytest

from tools.bench import gpu_report


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The whole report in its small form, and its folder."""
    out, argv = tmp_path_factory.mktemp("report"), sys.argv
    sys.argv = ["gpu_report.py", "--small", "--seconds", "1200", "--out", str(out), "--data", str(out / "demo")]
    try:
        status = gpu_report.main()
    finally:
        sys.argv = argv
    return json.loads((out / "gpu_report.json").read_text()), out, status


def test_every_section_is_there_and_done(report):
    content, _, status = report
    failed = {name: [s.get("error"), s["rows"]] for name, s in content["sections"].items() if s["status"] != "done"}
    assert failed == {} and status == 0
    assert list(content["sections"]) == list(gpu_report.SHARES)
    assert {"device", "torch", "torchvision"} <= set(content["machine"])
    tasks = {row["task"]: row for row in content["sections"]["training"]["rows"]}
    assert set(tasks) == {"classification", "detection", "segmentation"}
    assert all(row["steps"] == 1 and row["group"] in ("gloo", "nccl") for row in tasks.values())
    speed = content["sections"]["speed"]["rows"]
    assert {row["what"] for row in speed} == {"inference", "training"}
    assert {row["network"] for row in speed} == {"peer", "ours", "fused", "swin_t", "convnext_tiny"}
    assert all(row["images_per_s"] > 0 and row["mib"] > 0 for row in speed)


def test_the_tables_hold_every_figure(report):
    content, out, _ = report
    text = (out / "gpu_report.md").read_text()
    for name, section in content["sections"].items():
        assert f"## {name}: done" in text
        assert text.count("\n|") >= len(section["rows"]) + 2


def test_a_hidden_package_is_not_installed_and_the_others_are(tmp_path):
    code = "import json, sys; from importlib import metadata as m, util; "
    code += "print([util.find_spec(n) is None for n in ('yapf', 'json')], m.distribution('torch').name)\n"
    code += "try: m.distribution('yapf')\nexcept m.PackageNotFoundError: print('absent')"
    env = dict(os.environ, PYTHONPATH=str(gpu_report.hide("yapf", tmp_path / "hidden")))
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout.split() == ["[True,", "False]", "torch", "absent"], done.stderr


def test_every_operator_is_compared(monkeypatch):
    import operator_cases
    from mmcv.ops.nms import ext_module as extension

    from ziggurat.mmcv_ops.operators import OPERATORS

    called = set()
    for name, operator in OPERATORS.items():

        def note(*args, _name=name, _operator=operator, **kwargs):
            called.add(_name)
            return _operator(*args, **kwargs)

        monkeypatch.setattr(extension, name, note)
    assert [operator_cases.difference(case, "cpu") for case in operator_cases.CASES] == [0.0] * len(
        operator_cases.CASES
    )
    assert set(OPERATORS) - called == {"get_compiler_version", "get_compiling_cuda_version"}


@pytest.mark.parametrize(
    ("code", "status", "error", "rows"),
    [
        ("raise ValueError('no such thing')", "failed", "ValueError: no such thing", 1),
        ("time.sleep(60)", "stopped", "the time was over after 8 s", 1),
        ('file.write(\'{"row": {"operator": "b", "error": "E: x"}}\\n\')', "failed", None, 2),
    ],
)
def test_a_section_that_fails_or_takes_long_leaves_what_it_has(code, status, error, rows, tmp_path, monkeypatch):
    program = tmp_path / "gpu_sections.py"
    start = "import sys, time; file = open(sys.argv[2], 'a', buffering=1)\n"
    program.write_text(start + """file.write('{"row": {"operator": "a"}}\\n')\n""" + code)
    monkeypatch.setattr(gpu_report, "__file__", str(tmp_path / "gpu_report.py"))
    monkeypatch.setattr(sys, "argv", ["gpu_report.py", "--data", str(tmp_path)])
    found = gpu_report.run_section("operators", 8, tmp_path / "rows.jsonl", [], gpu_report.parse_args())
    assert (found["status"], found.get("error"), len(found["rows"])) == (status, error, rows)
    report = {"small": False, "sections": {"operators": found}}
    gpu_report.write(report, tmp_path)
    assert f"operators: {status}" in (tmp_path / "gpu_report.md").read_text()

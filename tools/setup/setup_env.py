"""Builds .venv with the versions of requirements.lock, if .venv is missing, out of date or half-built.

setup_env.sh starts this script with a fitting Python. The script needs the standard library alone, and no compiler.
"""

import fcntl
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "built-from.json"  # exists only after a complete set-up
LOG = VENV / "setup.log"
NEEDED_GB = 8
CHECK = """
import cv2, mmcv, mmdet, mmengine, mmseg, torch, torchvision
from ziggurat.engine.installed import check
check()
"""


def main() -> None:
    if built_from() == wanted():
        return
    if VENV.is_symlink() or VENV.is_file():  # another project may be using it
        fail(f"{VENV} is a {'link' if VENV.is_symlink() else 'file'}; allowed: a folder, or nothing, to make one there")
    with open(ROOT / ".venv.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second make in this folder waits here
        was = built_from()
        if was != wanted():
            build(anew=was is None or {**was, "project": None} != {**wanted(), "project": None})


def wanted() -> dict[str, str]:
    """The facts that .venv must be built from. A change of ``project`` alone needs no new environment."""
    version = platform.python_version() if os.environ.get("PYTHON") else (built_from() or {}).get("python")
    return dict(
        python=version or platform.python_version(),
        place=str(ROOT),  # a virtual environment does not work from another folder
        lock=digest(ROOT / "requirements.lock"),
        project=digest(ROOT / "pyproject.toml", ROOT / "setup.py"),
    )


def built_from() -> dict[str, str] | None:
    """The facts that .venv was built from; None if .venv is missing or half-built, or its Python is gone."""
    try:
        return json.loads(STAMP.read_text()) if PYTHON.exists() else None
    except (OSError, ValueError):
        return None


def build(anew: bool) -> None:
    began = time.monotonic()
    stamp = wanted()
    STAMP.unlink(missing_ok=True)
    if anew:
        shutil.rmtree(VENV, ignore_errors=True)
        free = shutil.disk_usage(ROOT).free / 1e9
        if free < NEEDED_GB:
            fail(f"the set-up needs {NEEDED_GB} GB in {ROOT}, {free:.1f} GB are free")
        VENV.mkdir()
        stamp["python"] = platform.python_version()
        step(1, f"creating .venv with Python {stamp['python']}", sys.executable, "-m", "venv", str(VENV))
        step(2, "installing the locked packages (about 6 GB, 2-5 minutes)", *PIP, "-r", "requirements.lock")
    step(3, "installing ziggurat-vision itself", *PIP, "--no-build-isolation", "-e", ".")
    step(4, "checking that everything imports", str(PYTHON), "-c", CHECK)
    STAMP.write_text(json.dumps(stamp, indent=2) + "\n")
    print(f"set-up complete after {time.monotonic() - began:.0f} s", flush=True)


# The lock is complete, so pip resolves nothing. Resolution would bring opencv-python, which needs libGL. mmcv is a
# source package. pip builds it in isolation, without torch, so mmcv's operators are left out.
PIP = (str(PYTHON), "-m", "pip", "install", "--no-deps", "--no-input", "--disable-pip-version-check")


def step(number: int, what: str, *command: str) -> None:
    """Runs one command. Its output goes to the log. The screen shows one line with the seconds."""
    title, began = f"[{number}/4] {what}", time.monotonic()
    on_terminal = sys.stdout.isatty()
    print(f"{title} ...", end="" if on_terminal else "\n", flush=True)
    with open(LOG, "a") as log:
        print(f"\n{title}", file=log, flush=True)
        process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=log, stderr=subprocess.STDOUT)
        try:
            next_sign = began + 30
            while process.poll() is None:
                time.sleep(0.2)
                seconds = time.monotonic() - began
                if on_terminal:
                    print(f"\r{title} ... {seconds:.0f} s", end="", flush=True)
                elif time.monotonic() > next_sign:
                    print(f"      still at it after {seconds:.0f} s", flush=True)
                    next_sign += 30
        except BaseException:
            process.terminate()
            process.wait()
            raise
    seconds = time.monotonic() - began
    print(f"\r{title} ... {seconds:.0f} s" if on_terminal else f"      {seconds:.0f} s", flush=True)
    if process.returncode:
        lines = LOG.read_text(errors="replace").split(title)[-1].splitlines()
        print("\n".join([line for line in lines if not line.startswith("WARNING: ")][-15:]), file=sys.stderr)
        fail(f"set-up step {number} failed; its whole output is in {LOG}; the next make starts it again")


def environment() -> dict[str, str]:
    """The user's environment without the variables that would let other packages into .venv or its builds."""
    leaky = {"PYTHONPATH", "PYTHONHOME", "PIP_NO_BUILD_ISOLATION", "PIP_REQUIREMENT", "PIP_TARGET", "PIP_PREFIX"}
    return {name: value for name, value in os.environ.items() if name not in leaky} | dict(PYTHONNOUSERSITE="1")


def digest(*paths: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def fail(message: str) -> None:
    sys.exit(f"error: {message}")  # on stderr, exit status 1


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, interrupt)  # else pip would go on alone, in a folder that the next make removes
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; the next make starts the set-up again")

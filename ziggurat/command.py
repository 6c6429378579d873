"""The command ``ziggurat``: each of its commands is a tool, which runs in the place of this process.

This file imports neither PyTorch nor a tool, so that help and mistakes take no time.
"""

import difflib
import os
import re
import signal
import sys
from pathlib import Path

from ziggurat import completion
from ziggurat.root import ROOT

PROGRAM = "ZIGGURAT_PROGRAM"  # an environment variable: how a tool was called, for its help
# Name -> tool, in the order of the help.
COMMANDS = {
    "train": "train",
    "test": "test",
    "predict": "predict",
    "export": "export",
    "features": "extract_features",
    "search": "search_features",
    "knn": "knn",
    "probe": "linear_probe",
    "distill": "distill",
    "launch": "launch/launch",
    "status": "status",
    "check-data": "check_dataset",
    "browse-data": "browse_dataset",
    "convert-data": "convert_dataset",
    "convert-weights": "convert_weights",
    "verify": "verify_checkpoint",
    "info": "model_info",
    "configs": "list_configs",
    "print-config": "print_config",
    "benchmark": "benchmark",
    "doctor": "doctor",
    "explore": "explore",
    "demo-data": "make_demo_data",
    "demo": "demo/demo",
}
COLUMN = re.compile(r"(?<=\S) {3,}(?=\S)")
USAGE = """usage: ziggurat COMMAND ...

Trains, tests and predicts with multi-scale pyramid backbones in classification, detection and segmentation.

{commands}

ziggurat COMMAND --help shows a command's options. ziggurat --version shows the version. A config is a file, or the name
of a config that comes with the package: ziggurat configs lists them. ziggurat completion bash (zsh, fish) prints what
that shell needs to complete all these: source <(ziggurat completion bash). zsh needs compinit before.
"""


def main() -> None:
    """Runs a command: ``sys.argv`` has its name and its arguments. An unknown one is one line, with exit status 2."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # Ctrl-C ends this process without a traceback
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    name, *arguments = sys.argv[1:] or ["--help"]
    if name == "help" and arguments:
        name, *arguments = *arguments, "--help"
    if name in COMMANDS:
        os.environ[PROGRAM] = f"ziggurat {name}"
        os.execv(sys.executable, [sys.executable, str(tool_of(name)), *arguments])
    try:
        print(answer(name, arguments), end="", flush=True)
    except BrokenPipeError:  # as with ``| head``
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for Python's own flush at the exit


def answer(name: str, arguments: list[str]) -> str:
    """What the commands without a tool print."""
    if name in ("-h", "--help", "help"):
        return usage()
    if name in ("-V", "--version"):
        from importlib.metadata import version

        return version("ziggurat-vision") + "\n"
    if name == "complete":
        return "".join(f"{word}\n" for word in completion.words_for(arguments, [*COMMANDS, "completion", "help"]))
    if name == "completion":
        if len(arguments) != 1 or arguments[0] not in completion.SCRIPTS:
            given = f"the shell is {' '.join(arguments)!r}" if arguments else "no shell is given"
            sys.exit(refusal(f"{given}; allowed: {', '.join(completion.SCRIPTS)}"))
        return completion.SCRIPTS[arguments[0]]
    nearest = difflib.get_close_matches(name, COMMANDS, n=3, cutoff=0.5)
    hint = f"nearest: {', '.join(nearest)}" if nearest else f"allowed: {', '.join(COMMANDS)}"
    sys.exit(refusal(f"unknown command {name!r}; {hint}"))


def usage() -> str:
    """The help: every command with what its tool says of itself."""
    width = max(map(len, COMMANDS))
    return USAGE.format(commands="\n".join(f"  {name:{width}}  {said(tool_of(name))}" for name in COMMANDS))


def tool_of(name: str) -> Path:
    """The file of a command's tool."""
    return ROOT / "tools" / f"{COMMANDS[name]}.py"


def said(tool: Path) -> str:
    """What a tool does: the first clause of its docstring, which begins the file."""
    with tool.open(encoding="utf-8") as file:
        return re.split(r"[.:;](?: |$)", file.readline().strip().strip('"'))[0]


def as_called(text: str) -> str:
    """A text in which tools have the names of commands: ``ziggurat train`` for ``python tools/train.py``.

    A second column of a line keeps its place.
    """
    names = {f"{tool}.py": name for name, tool in COMMANDS.items()}
    tools = "|".join(map(re.escape, names))

    def called(line: str) -> str:
        new = re.sub(rf"(launch.py \d+) tools/({tools})", lambda found: f"{found[1]} {names[found[2]]}", line)
        new = re.sub(rf"(python )?tools/({tools})", lambda found: f"ziggurat {names[found[2]]}", new)
        return COLUMN.sub(lambda gap: gap[0].ljust(len(gap[0]) + len(line) - len(new)), new, count=1)

    return "\n".join(map(called, text.split("\n")))


def refusal(message: str) -> int:
    print(f"error: {message} (see ziggurat --help)", file=sys.stderr)
    return 2

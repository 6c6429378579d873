"""Targets that are values of configs: one value replaced in the demo's configs, and texts of ``--cfg-options``."""

import contextlib
import io
from pathlib import Path
from random import Random
from typing import Any

from fuzz_odd import ODD, paths, value_at
from mmengine.config import Config

from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_training
from ziggurat.engine.tasks import task_for

CONFIGS = {
    "digits": "classification/configs/demo/van_b0_digits.py",
    "coco": "detection/configs/demo/mask_rcnn_van_b0_digits.py",
    "ade": "segmentation/configs/demo/semantic_fpn_van_b0_digits.py",
}
QUIET = {"default_hooks.logger.interval": 10}


class Configs:
    """One value of a demo's config is replaced. The run is built, or refused.

    Args:
        root: the demo's data.
        folder: a folder to write to.
    """

    def __init__(self, root: Path, folder: Path):
        self.root, self.folder = root, folder
        contents = {name: Config.fromfile(path).to_dict() for name, path in CONFIGS.items()}
        self.places = [(name, path) for name, content in contents.items() for path in settable(content)]
        for name, path in CONFIGS.items():  # what is imported here need not be imported by each child
            cfg = load_config(path, {"data_root": str(root / name)})
            task_for(cfg).build_model(cfg)

    def make(self, rng: Random) -> tuple[str, dict[str, Any]]:
        name, path = rng.choice(self.places)
        return name, {".".join(map(str, path)): rng.choice(ODD)}

    def run(self, given: tuple[str, Any]) -> None:
        name, options = given
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            cfg = load_config(CONFIGS[name], options if isinstance(options, list) else self.data(name) | options)
            build_training(cfg, self.folder / "run", overwrite=True, device="cpu").folder.release()

    def data(self, name: str) -> dict[str, Any]:
        return {"data_root": str(self.root / name)}


class Leaves(Configs):
    """Every value of the demo's configs, replaced by a value of every kind in turn.

    The first cases have each place once, with kinds that alternate, so that a part of all cases has every place.
    """

    KINDS = (None, "text", -1, 10**30, [0])

    def __init__(self, root: Path, folder: Path):
        super().__init__(root, folder)
        turns = [self.KINDS[turn:] + self.KINDS[:turn] for turn in range(len(self.KINDS))]
        self.cases = [
            (name, {".".join(map(str, path)): kinds[number % len(kinds)]})
            for kinds in turns
            for number, (name, path) in enumerate(self.places)
        ]


def settable(content: dict[str, Any]) -> list[tuple]:
    """The paths of a config's values that an option can set: everything but the insides of tuples."""
    found = []
    for path in paths(content):
        above = [value_at(content, path[:i]) for i in range(len(path))]
        if not any(isinstance(value, tuple) for value in above):
            found.append(path)
    return found


WORDS = ["1", "-1", "0", "1e400", "nan", "None", "true", "x", "[1,2]", "(1,)", "{'a':1}", "dict(a=1)", "[", "]", "{"]
WORDS += [
    "'",
    '"',
    ",",
    "",
    " ",
    "=",
    "..",
    "__import__('os')",
    "{{x}}",
    "lambda: 1",
    "9" * 400,
    "[[[[1]]]]",
    "\\",
    "-",
]
WORDS += [
    "{'a':[1,(2,)]}",
    "VAN",
    "van_b0",
    "AdamW",
    "\x00",
    "é",
    "{1:2}",
    "{'type': 'VAN'}",
    "$HOME",
    "%s",
    "[" * 2000,
]


class Options(Configs):
    """One to three texts as a user types them after ``--cfg-options``."""

    def make(self, rng: Random) -> tuple[str, list[str]]:
        name = rng.choice(["digits", "digits", "digits", "ade", "coco"])
        return name, [f"data_root={self.root / name}", *(self.text(rng, name) for _ in range(rng.choice((1, 1, 2, 3))))]

    def text(self, rng: Random, name: str) -> str:
        path = rng.choice([path for other, path in self.places if other == name])
        parts = list(map(str, path))
        kind = rng.random()
        if kind < 0.3:
            parts[rng.randrange(len(parts))] = rng.choice(("0", "-1", "type", "x", "", "a b", "_delete_", "99"))
        elif kind < 0.4:
            parts.append(rng.choice(WORDS))
        value = "".join(rng.choice(WORDS) for _ in range(rng.choice((1, 1, 1, 2, 3))))
        return ".".join(parts) + rng.choice(["="] * 12 + ["", "==", " = "]) + value

"""Rewrites weights in another published layout, or in ours, heads of any size included.

python tools/convert_weights.py WEIGHTS OUT [--to LAYOUT] [--which SET] [--backbone]
python tools/convert_weights.py CHECKPOINT FOLDER --publish [--name NAME] [--which raw] [--backbone]

WEIGHTS is a file, a URL or a name of the weights table. OUT ends in .pth or .safetensors. LAYOUT is ziggurat (ours) or
a layout of the family: official, official-seg, official-det, mmseg, mmpretrain, huggingface. Our layout and every
.safetensors file also hold arch, norm_eps, statistics and classes. For other files the tool prints these.

--publish writes FOLDER/NAME-xxxxxxxx.safetensors in our layout, with eight digits of its SHA-256, and a model card
NAME-xxxxxxxx.md. Every task loads the file by model.backbone.pretrained, and checks it where the name is a URL's.
"""

import ziggurat.engine.start  # noqa: F401

import argparse
import os
import re
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from backbones import LoadReport, UserError, convert, load_weights
from backbones.errors import printable
from backbones.files import replaced_file, sha256_of
from backbones.registry import arch_of, build_backbone, family_of
from backbones.weights import own_meta, read_own_meta, save_safely, statistics
from backbones.weights.source import head_rows, open_source, read_source
from classification.model import Classifier
from ziggurat.engine.cli import Parser, output_folder, run_tool
from ziggurat.engine.model_card import model_card


def main() -> None:
    args = parse_args()
    if args.arch is not None:
        family_of(args.arch)
    arch = args.arch or arch_of(args.weights, args.which)
    _, content = read_source(arch, args.weights)
    if args.to not in ("ziggurat", *convert.sources(arch)):
        allowed = ", ".join(("ziggurat", *convert.sources(arch)))
        raise UserError(f"--to is {args.to!r}; allowed for {arch}: {allowed}")
    model = load(arch, content, args.which)
    backbone = getattr(model, "backbone", model)
    report = backbone.load_report
    model = backbone if args.backbone else model
    written, left_out = rewrite(model, arch, args.to)
    with_head = model is not backbone and not any(name.startswith("head.") for name in left_out)
    meta = {"ziggurat": meta_of(model, args.weights, content, with_head)}
    if args.publish:
        path = publish(written | {"meta": meta}, args.out, args.name or name_of(content, arch))
        card = model_card(path.name, sha256_of(path), meta["ziggurat"], content, set_of(report, content))
        with replaced_file(path.with_suffix(".md")) as beside:
            beside.write_text(card)
        print(f"{path}: {len(written)} tensors; card: {path.with_suffix('.md')}")
        return
    bare = container_of(arch, args.to) is None
    if args.out.suffix == ".safetensors":
        save_safely(written | {"meta": meta}, args.out)
    elif args.to == "ziggurat":
        save_safely({"meta": meta, "state_dict": written}, args.out)
    else:
        save_safely(written if bare else {container_of(arch, args.to): written}, args.out)

    place = f" in {report.place}" if report.place else ""
    tensors = len(report.loaded) + len(report.unexpected)
    print(f"{args.weights}: {arch}, {report.source} layout, {tensors} tensors{printable(place)}")
    print(f"{args.out}: {args.to} layout, {len(written)} tensors")
    for names, why in ((report.unexpected, "not read"), (left_out, f"no place in the {args.to} layout")):
        if names:
            listed = printable(", ".join(names[:5]))
            print(f"left out, {why}: {listed}{f' and {len(names) - 5} more' * (len(names) > 5)}")
    if args.out.suffix != ".safetensors" and args.to != "ziggurat":
        print(f"the {args.to} layout has no place for: {left_unsaid(backbone, arch, args.to, meta)}")


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("weights", help="a file, a URL or a name of the weights table")
    parser.add_argument("out", type=Path, help="file to write, .pth or .safetensors; with --publish a folder")
    parser.add_argument("--to", default="ziggurat", help="layout to write (default: ziggurat, our own)")
    parser.add_argument("--arch", help="arch of the weights (default: found by their tensors)")
    parser.add_argument("--which", help="if the file holds several sets: ema (default), raw or an entry's name")
    parser.add_argument("--backbone", action="store_true", help="leave the head out")
    parser.add_argument("--publish", action="store_true", help="name the file after its content, and write a card")
    parser.add_argument("--name", help="for --publish; default: the run's name, else the arch")
    args = parser.parse_args()
    if args.publish:
        if args.to != "ziggurat":
            raise UserError(f"--publish writes our layout, and --to is {args.to!r}; leave --to out")
        if args.name is not None and not re.fullmatch(r"[\w.-]+", args.name):
            raise UserError(f"--name is {args.name!r}; allowed: letters, digits, _, - and .")
        output_folder(args.out, "OUT")
        return args
    if args.name is not None:
        raise UserError("--name belongs to --publish; without it OUT is the file's name")
    if args.out.suffix not in (".pth", ".safetensors"):
        raise UserError(f"OUT is {args.out}; allowed: a name that ends in .pth or .safetensors")
    if args.out.exists():
        raise UserError(f"{args.out} exists; choose another name or remove it first")
    return args


def publish(tensors: dict[str, Any], folder: Path, name: str) -> Path:
    """Writes tensors and ``meta`` to ``folder/name-xxxxxxxx.safetensors``, named after its SHA-256."""
    beside = folder / f".{name}.{os.getpid()}.safetensors"
    try:
        save_safely(tensors, beside)
        return beside.rename(folder / f"{name}-{sha256_of(beside)[:8]}.safetensors")
    finally:
        beside.unlink(missing_ok=True)


def name_of(content: dict[str, Any], arch: str) -> str:
    """The name of the run that wrote a checkpoint, without what makes the run unique; else the arch."""
    name = str((content.get("meta") or {}).get("experiment_name") or "")
    found = re.fullmatch(r"([\w.-]+?)_[0-9a-f]{8}(_\d{8}_\d{6})?", name)
    return found[1] if found else arch


def set_of(report: LoadReport, content: dict[str, Any]) -> str:
    """Whether the weights are averaged ones. A run here keeps the trained ones beside them."""
    if "ema_state_dict" not in content:
        return "trained"
    return "trained" if report.place.startswith("ema_state_dict") else "averaged"


def load(arch: str, content: dict[str, Any], which: str | None) -> nn.Module:
    """A classifier with the checkpoint's head, or the backbone alone if there is no head."""
    rows = head_rows(open_source(arch, family_of(arch).ARCHS[arch], content, which))
    backbone = build_backbone(arch, content, **({"out_indices": (-1,)} if rows else {}))
    model = Classifier(backbone, rows) if rows else backbone
    load_weights(model, content, which=which)
    return model


def meta_of(model: nn.Module, weights: str, content: dict[str, Any], with_head: bool) -> dict[str, Any]:
    """The description of the written file: taken from the file that was read, else from the tables here.

    A backbone alone has no task, classes and config.
    """
    own = read_own_meta(content) or {}
    arch = getattr(model, "backbone", model).arch
    known = statistics(arch, content if own.get("mean") is not None else weights)
    rest = {name: own.get(name) for name in ("task", "classes", "config") if with_head}
    return own_meta(model, known.mean, known.std, **rest)


def left_unsaid(backbone: nn.Module, arch: str, to: str, meta: dict[str, Any]) -> str:
    """The facts that the written file has no place for and its user must know, such as mean and std."""
    own = meta["ziggurat"]
    lines = [f"mean {own['mean']}, std {own['std']}"]
    row = family_of(arch).ARCHS[arch]
    implied = convert.structure(arch, row, convert.Recognised(to, {}, set(), {}), {}).get("norm_eps")
    eps = own["backbone"].get("norm_eps")
    if eps != implied:
        lines.append(f"norm_eps {eps}, where the {to} layout implies {implied}")
    return "; ".join(lines)


def container_of(arch: str, to: str) -> str | None:
    return None if to == "ziggurat" else convert.layout_of(arch, family_of(arch).ARCHS[arch], to).container


def rewrite(model: nn.Module, arch: str, to: str) -> tuple[dict[str, Tensor], list[str]]:
    """The model's tensors in a layout, and the names of the tensors that the layout has no place for."""
    state = model.state_dict()
    if to == "ziggurat":
        return state, []
    bare = {name.removeprefix("backbone."): value for name, value in state.items()}
    return convert.write_state(arch, family_of(arch).ARCHS[arch], bare, to)


if __name__ == "__main__":
    run_tool(main)

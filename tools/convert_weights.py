"""Rewrites weights in another published layout, or in ours. Heads of any size are rewritten too.

python tools/convert_weights.py WEIGHTS OUT [--to ziggurat|official|official-seg|official-det|mmpretrain|huggingface]

WEIGHTS is a file, a URL or a name of the weights table. OUT ends in .pth or .safetensors.
"""

import argparse
from pathlib import Path

from torch import Tensor, nn

from backbones import UserError, convert, create_backbone, list_archs, load_weights
from backbones.registry import family_of
from backbones.weights import find_state, save_safely, tensors_for
from backbones.weights_table import WEIGHTS
from classification import create_classifier
from engine.cli import Parser, run_tool


def main() -> None:
    args = parse_args()
    if args.arch is not None:
        family_of(args.arch)
    arch = args.arch or (args.weights.split(".")[0] if args.weights in WEIGHTS else None)
    _, state = find_state(arch or "", args.weights)
    arch = arch or fitting_arch(args.weights, state)
    if args.to not in ("ziggurat", *convert.sources(arch)):
        allowed = ", ".join(("ziggurat", *convert.sources(arch)))
        raise UserError(f"--to is {args.to!r}; allowed for {arch}: {allowed}")
    model = load(arch, state)
    written, left_out = rewrite(model, arch, args.to)
    container = (
        None if args.to == "ziggurat" else convert.names_of(arch, family_of(arch).ARCHS[arch], args.to).container
    )
    bare = args.out.suffix == ".safetensors" or container is None
    save_safely(written if bare else {container: written}, args.out)

    report = getattr(model, "backbone", model).load_report
    print(f"{args.weights}: {arch}, {report.source} layout, {len(state)} tensors")
    print(f"{args.out}: {args.to} layout, {len(written)} tensors")
    for names, why in ((report.unexpected, "not read"), (left_out, f"no place in the {args.to} layout")):
        if names:
            print(f"left out, {why}: {', '.join(names[:5])}{f' and {len(names) - 5} more' * (len(names) > 5)}")


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("weights", help="a file, a URL or a name of the weights table")
    parser.add_argument("out", type=Path, help="file to write, .pth or .safetensors")
    parser.add_argument("--to", default="ziggurat", help="layout to write (default: ziggurat, our own)")
    parser.add_argument("--arch", help="arch of the weights (default: the arch whose tensors they are)")
    args = parser.parse_args()
    if args.out.suffix not in (".pth", ".safetensors"):
        raise UserError(f"OUT is {args.out}; allowed: a name that ends in .pth or .safetensors")
    if args.out.exists():
        raise UserError(f"{args.out} exists; choose another name or remove it first")
    return args


def fitting_arch(where: str, state: dict[str, Tensor]) -> str:
    """The arch whose every backbone tensor the state dict has."""
    arch = max(list_archs(), key=lambda name: tensors_for(family_of(name), name, state))
    if not tensors_for(family_of(arch), arch, state):
        raise UserError(f"{where} holds all tensors of no known arch; --arch ARCH says what is missing from one")
    return arch


def load(arch: str, state: dict[str, Tensor]) -> nn.Module:
    """A classifier with the checkpoint's head, or the backbone alone where it has none."""
    found = convert.recognise(arch, family_of(arch).ARCHS[arch], state)
    heads = [state[key] for key, name in found.names.items() if name in ("head.fc.weight", "head.fc2.weight")]
    model = create_classifier(arch, num_classes=len(heads[0])) if heads else create_backbone(arch)
    load_weights(model, state)
    return model


def rewrite(model: nn.Module, arch: str, to: str) -> tuple[dict[str, Tensor], list[str]]:
    """The model's tensors in a layout, and the names of those that the layout has no place for."""
    state = model.state_dict()
    if to == "ziggurat":
        return state, []
    bare = {name.removeprefix("backbone."): value for name, value in state.items()}
    return convert.write_state(arch, family_of(arch).ARCHS[arch], bare, to)


if __name__ == "__main__":
    run_tool(main)

"""Times VAN's folded blocks as they are, beside other public forms of PyTorch for inference on a CPU.

python tools/bench/benchmark_block_forms.py --out FIGURES.json [--arch van_b0] [--repeats 15] [--threads 1]

The other forms are oneDNN's own tensors, with packed weights, and frozen TorchScript, which
``torch.jit.optimize_for_inference`` puts into such tensors.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import mkldnn

from backbones import create_backbone
from backbones.cpu import in_fast_format
from backbones.files import write_json
from ziggurat.engine.cli import Parser, output_folder, run_tool
from ziggurat.engine.machine import machine
from ziggurat.engine.timing import in_turn, seconds
from ziggurat.engine.tool_options import count

CPU = torch.device("cpu")
SIZE, BATCHES = 224, (1, 8)


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    output_folder(args.out.parent)
    torch.manual_seed(0)
    net, rows = create_backbone(args.arch).eval().fuse(), []
    for batch in BATCHES:
        for number, stage in enumerate(net.stages):
            side = SIZE // net.feature_info[number].stride
            x = torch.randn(batch, net.feature_info[number].channels, side, side)
            row = {"stage": number, "batch": batch, "input": list(x.shape)} | measured(stage.blocks[0], x, args.repeats)
            rows.append(row)
            print(row["input"], row["times"], flush=True)
    about = {"machine": machine(CPU) | {"threads": args.threads}, "arch": args.arch, "size": SIZE}
    write_json(args.out, about | {"rows": rows})
    print(f"figures: {args.out}")


def parse_args() -> Any:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--arch", choices=("van_b0", "van_b1", "van_b2"), default="van_b0", help="default: van_b0")
    parser.add_argument("--repeats", type=count, default=15, help="timed calls, whose median counts (default: 15)")
    parser.add_argument("--threads", type=count, default=1, help="default: 1")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the figures")
    return parser.parse_args()


@torch.no_grad()
def measured(block: nn.Module, x: Tensor, repeats: int) -> dict[str, Any]:
    """The times of each form, and their largest difference from the block, as a share of its largest value."""
    fast = in_fast_format(x)
    forms = {
        "block": (block, fast),
        "oneDNN tensors": (InTensors(block), x),
        "frozen script": (frozen(block, fast), fast),
    }
    wanted = block(fast)
    errors = {
        name: ((form(given) - wanted).abs().max() / wanted.abs().max()).item() for name, (form, given) in forms.items()
    }
    timers = {name: lambda pair=pair: seconds(lambda: pair[0](pair[1]), CPU) for name, pair in forms.items()}
    return {"errors": errors, "times": in_turn(timers, repeats)}


def frozen(block: nn.Module, x: Tensor) -> Any:
    """The block as frozen TorchScript, after the calls in which it is optimised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(block, x)))
        for _ in range(3):
            script(x)
    return script


class InTensors:
    """A folded block whose convolutions take and give tensors of oneDNN."""

    def __init__(self, block: nn.Module):
        self.skip = block.skip
        self.attn = {
            name: packed(getattr(block.attn, name)) for name in ("proj_in", "dw", "dw_dilated", "pw", "proj_out")
        }
        self.mlp = {name: packed(getattr(block.mlp, name)) for name in ("fc1", "dw", "fc2")}

    def __call__(self, x: Tensor) -> Tensor:
        attn, mlp = self.attn, self.mlp
        y = F.gelu(attn["proj_in"](x.to_mkldnn()))
        y = attn["proj_out"](y * attn["pw"](attn["dw_dilated"](attn["dw"](y)))).to_dense()
        x = torch.addcmul(y, x, self.skip)
        return x + mlp["fc2"](F.gelu(mlp["dw"](mlp["fc1"](x.to_mkldnn())))).to_dense()


def packed(conv: nn.Module) -> nn.Module:
    """A convolution with weights in oneDNN's own layout."""
    options = dict(padding=conv.padding, dilation=conv.dilation, groups=conv.groups)
    plain = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, **options)
    plain.load_state_dict(conv.state_dict())
    return mkldnn.to_mkldnn(plain)


if __name__ == "__main__":
    run_tool(main)

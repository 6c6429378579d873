"""Pretrains a network on images without labels, from the features of a teacher.

python tools/distill.py --student ARCH --teacher TEACHER --data FOLDER [--work-dir DIR] [--cfg-options KEY=VALUE ...]

TEACHER is a model of timm (timm:vit_small_patch14_dinov2), one of our archs, a name of our weights, or a checkpoint of
one of our networks. The run is that of tools/train.py with the config. WORK_DIR/backbone.safetensors is the result,
which every config loads by model.backbone.pretrained=FILE.
"""

import ziggurat.engine.start  # noqa: F401

import argparse
from pathlib import Path
from typing import Any

from ziggurat.engine.cli import Parser, run_tool
from ziggurat.engine.tool_options import add_amp_option, add_run_options, add_track_option, track_options

CONFIG = Path(__file__).parent.parent / "classification/configs/distill/van_b0_8xb128_distill.py"


def main() -> None:
    args = parse_args()
    from backbones import UserError
    from classification.distill import NAME
    from ziggurat.engine.config import load_config
    from ziggurat.engine.options import parse_options
    from ziggurat.engine.run import build_training

    options = parse_options([*args.cfg_options, *track_options(args)])
    cfg = load_config(args.config, {**options_of(args), **options})
    if (cfg.get("model") or {}).get("type") != "Distiller":
        raise UserError(f"--config {args.config} is no distillation; allowed: a config with model.type='Distiller'")
    work_dir = args.work_dir or cfg.get("work_dir") or f"work_dirs/{cfg.model.backbone.arch}_distill"
    runner = build_training(
        cfg, work_dir, args.resume, args.overwrite, launcher=args.launcher, amp=args.amp, device=args.device
    )
    runner.train()
    if runner.rank == 0:
        print(f"backbone: {runner.work_dir}/{NAME}")


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    """The options of the config that the tool's own arguments stand for."""
    return {
        "model.backbone.arch": args.student,
        "model.teacher.name": args.teacher,
        "model.teacher.weights": args.teacher_weights or True,
        "model.teacher.input_size": args.teacher_size,
        "data_root": args.data,
    }


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", required=True, metavar="ARCH", help="the network to pretrain, e.g. van_b0")
    parser.add_argument("--teacher", required=True, help="a model of timm, or an arch, weights or checkpoint of ours")
    parser.add_argument("--data", required=True, metavar="FOLDER", help="images at any depth")
    parser.add_argument("--teacher-weights", metavar="FILE", help="for a model of timm or an arch; default: published")
    parser.add_argument(
        "--teacher-size", type=int, metavar="PIXELS", help="side of the teacher's images; default: the teacher's own"
    )
    parser.add_argument("--config", default=CONFIG, help=f"the recipe (default: {CONFIG.parent.name}/{CONFIG.name})")
    parser.add_argument("--resume", nargs="?", const=True, metavar="CHECKPOINT", help="as in tools/train.py")
    parser.add_argument("--overwrite", action="store_true", help="replace the run in the work dir")
    add_amp_option(parser)
    add_track_option(parser)
    add_run_options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    run_tool(main)

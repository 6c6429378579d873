"""Evaluates a checkpoint on a config's test data."""

import json
from pathlib import Path

from engine.cli import Parser, add_run_options, output_folder, run_tool


def main() -> None:
    args = parse_args()
    from backbones.files import replaced_file
    from engine.config import load_config
    from engine.run import build_testing
    from engine.tta import use_tta

    if args.out:
        output_folder(Path(args.out).parent)
    cfg = load_config(args.config, args.cfg_options)
    if args.tta:
        use_tta(cfg)
    runner = build_testing(cfg, args.checkpoint, args.work_dir, launcher=args.launcher, device=args.device)
    metrics = runner.test()
    if args.out and runner.rank == 0:
        with replaced_file(args.out) as beside:
            beside.write_text(json.dumps(metrics, indent=2) + "\n")
        print(f"metrics: {args.out}")


def parse_args():
    parser = Parser(description=__doc__)
    parser.add_argument("config", help="the config that the checkpoint was trained with")
    parser.add_argument("checkpoint", help="e.g. work_dirs/<config name>/epoch_12.pth")
    parser.add_argument(
        "--tta", action="store_true", help="test-time augmentation: the config's tta_model and tta_pipeline"
    )
    parser.add_argument("--out", metavar="FILE", help="JSON file to write the metrics to")
    add_run_options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    run_tool(main)

"""Trains any config: classification, detection or segmentation."""

import ziggurat.engine.start  # noqa: F401

from backbones import UserError
from ziggurat.engine.cli import Parser, run_tool
from ziggurat.engine.tool_options import (
    add_amp_option,
    add_data_option,
    add_run_options,
    add_track_option,
    data_options,
    track_options,
)


def main() -> None:
    args = parse_args()
    from ziggurat.engine.config import load_config
    from ziggurat.engine.run import build_training, replay
    from ziggurat.engine.signals import Stopped, requeue_job

    head = ["model.reset_head=True"] if args.reset_head else []
    options = [*data_options(args), *args.cfg_options, *track_options(args), *head]
    cfg = load_config(args.config, options)
    how = dict(launcher=args.launcher, amp=args.amp, device=args.device)
    if args.keep_schedule and not args.resume:
        raise UserError("--keep-schedule needs --resume")
    if args.replay is not None and (args.resume or args.overwrite):
        raise UserError("--replay stands alone; allowed: no --resume and no --overwrite beside it")
    if args.replay is not None:
        print(f"{args.replay}: the loss is {replay(cfg, args.replay, **how)}")
    else:
        try:
            build_training(
                cfg, args.work_dir, args.resume, args.overwrite, keep_schedule=args.keep_schedule, **how
            ).train()
        except Stopped:
            if args.requeue:
                requeue_job()
            raise


def parse_args():
    parser = Parser(description=__doc__)
    parser.add_argument("config", help="a file, or a name that tools/list_configs.py lists")
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        metavar="CHECKPOINT",
        help="continue the run in the work dir from its last checkpoint, or from the given one; 'auto' starts a new "
        "run if there is none",
    )
    parser.add_argument(
        "--keep-schedule",
        action="store_true",
        help="with --resume: keep the checkpoint's schedule, length and optimiser where the config says otherwise",
    )
    parser.add_argument(
        "--replay", metavar="FILE", help="show the loss of the step that a run stopped at; FILE is the file it named"
    )
    parser.add_argument(
        "--requeue",
        action="store_true",
        help="on Slurm: queue the job again after a signal ended it, with its own command; so use --resume auto too",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the run in the work dir")
    parser.add_argument(
        "--reset-head",
        action="store_true",
        help="classification: start with a new head, whatever the weights hold; weights of another number of classes "
        "start with one anyway, and a note says so",
    )
    add_data_option(parser)
    add_amp_option(parser)
    add_track_option(parser)
    add_run_options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    run_tool(main)

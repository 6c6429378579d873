"""Opens a page of this machine on which you look into networks: maps, attention, graphs, and what speaks for a class.

python tools/explore.py
python tools/explore.py van_b2.in1k work_dirs/my_run/epoch_12.pth --image street.jpg

The page offers every arch with random weights, published weights that are on this machine, and checkpoints by their
path. Models of the command line are in its menu; published weights among them are downloaded. Images are dropped on the
page. Only programs of this machine reach the page, under the address that is printed. Ctrl-C ends it.
docs/explore.md shows what the page has.
"""

import ziggurat.engine.start  # noqa: F401

import argparse
import errno
import os
import webbrowser
from pathlib import Path

import torch

from backbones import UserError
from ziggurat.engine.cli import Parser, run_tool

PORT = 8765
SIZE = 224


def main() -> int:
    args = parse_args()

    from ziggurat.engine.explore.networks import find_weights
    from ziggurat.engine.explore.server import Server
    from ziggurat.engine.explore.session import Session
    from ziggurat.engine.processes import pick_device

    for model in args.models:
        find_weights(model)
    session = Session(args.models, args.image, torch.device(pick_device(args.device)), args.size)
    session.open_models()
    with serve(Server, session, args.port) as server:
        print(f"the page is at {server.address} (Ctrl-C ends it)", flush=True)
        if args.open:
            webbrowser.open(server.address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("\nended", flush=True)
            if not session.lock.acquire(blocking=False):  # a thread computes, which the end of Python would abort
                os._exit(0)
    return 0


def serve(server: type, session: object, port: int | None):
    """The server on a port. Without one it is the usual port, or any free one if that is taken.

    Raises:
        UserError: the given port is taken, or needs more rights.
    """
    try:
        return server(session, PORT if port is None else port)
    except OSError as error:
        if port is None and error.errno == errno.EADDRINUSE:
            return server(session)
        raise UserError(f"--port {port}: {error.strerror}; allowed: another port, or 0 for any free one") from None


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "models",
        nargs="*",
        metavar="ARCH_OR_CHECKPOINT",
        help="for the page's menu: an arch, the name of published weights or of a published model, or a file",
    )
    parser.add_argument(
        "--image",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="an image for the page; may be repeated",
    )
    parser.add_argument(
        "--size",
        type=int,
        default=SIZE,
        help="pixels of the shorter side of the input (default: %(default)s)",
    )
    parser.add_argument("--port", type=int, help=f"default: {PORT}, or any free one if that is taken")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: cuda if there is a GPU")
    args = parser.parse_args()
    if args.port is not None and not 0 <= args.port <= 65535:
        raise UserError(f"--port is {args.port}; allowed: 0 to 65535")
    return args


if __name__ == "__main__":
    run_tool(main)

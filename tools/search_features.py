"""Finds the images of a store that are most like a query: whole images, or the place that a click or a box shows.

python tools/search_features.py QUERY ... --store DIR [--top 10] [--sheet found.png] [--out found.json]
python tools/search_features.py QUERY --store DIR --at ROW COLUMN [--stage 2]

tools/extract_features.py --form store makes a store. The query's features are computed as those of the store were: the
same network, weights, stages, pooling, types and preprocessing. docs/features.md shows a search.
"""

import ziggurat.engine.start  # noqa: F401

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from backbones import UserError
from backbones.reading import Reading
from backbones.store import FeatureStore
from backbones.store.faiss_index import search_by_faiss
from backbones.store.layout import import_extra
from backbones.store.search import METRICS, Neighbour, checked_stage, search
from ziggurat.engine.addresses import local
from ziggurat.engine.cli import Parser, run_tool
from ziggurat.engine.features.sources import StoredImage, images_of
from ziggurat.engine.given import expanded
from ziggurat.engine.search.network import extractor_of
from ziggurat.engine.search.queries import Part, Query, queries_of
from ziggurat.engine.search.results import SUFFIXES, check_result, lines_of, write_results
from ziggurat.engine.tool_options import add_download_option, count


def main() -> int | None:
    args = parse_args()
    check_result(args.out, "--out", SUFFIXES, args.overwrite, Path(args.store))
    check_result(args.sheet, "--sheet", [".png"], args.overwrite, Path(args.store))
    part = part_of(args)
    if part is not None and args.index == "faiss":
        raise UserError("--index is faiss, which compares whole images; allowed with --at and --box: exact")
    if args.index == "faiss":
        import_extra("faiss", "--index faiss", "ziggurat-vision[search]")
    store = FeatureStore(args.store)
    if not len(store):
        raise UserError(f"{store.path} has no images with features; allowed: a store of tools/extract_features.py")
    stage = checked_stage(store, args.stage, part is not None)
    given = local(expanded(args.queries), args.download)
    extractor = extractor_of(store, args.weights, args.device)
    if store.meta.get("weights") is None:
        print(f"note: the store is of random weights of {extractor.net.arch}", file=sys.stderr)
    queries, skipped = [], list(given.problems)
    for query in queries_of(extractor, store, images_of(given, extractor.reading), stage, part):
        (queries if isinstance(query, Query) else skipped).append(query)
    if not queries:
        raise UserError(skipped[0])
    vectors = np.stack([query.vector for query in queries])
    if args.index == "faiss":
        found = search_by_faiss(store, vectors, stage, args.top, args.metric)
    else:
        found = search(store, vectors, stage, args.top, args.metric, part is not None)
    print(f"{len(store)} images of {store.path}, {stage}, {args.metric}")
    show(args, store, stage, part, dict(zip([query.image for query in queries], found, strict=True)), extractor.reading)
    if skipped:
        print("\n".join(f"skipped: {line}" for line in skipped), file=sys.stderr)
    return 1 if skipped else 0


def show(
    args: argparse.Namespace,
    store: FeatureStore,
    stage: str,
    part: Part | None,
    found: dict[StoredImage, list[Neighbour]],
    reading: Reading,
) -> None:
    """Prints what was found, and writes the files that the user asked for."""
    for query, neighbours in found.items():
        print("\n".join(["", *lines_of(query.name, neighbours, args.metric)]))
    if args.out:
        about = {"stage": stage, "metric": args.metric, "index": args.index, "part": part and part._asdict()}
        write_results(args.out, store, about, {query.name: some for query, some in found.items()})
        print(f"\nresults: {args.out}")
    if args.sheet:
        from ziggurat.engine.search.sheet import MOST_QUERIES, write_sheet

        missing = write_sheet(args.sheet, store, list(found.items()), args.metric, part, reading)
        if missing:
            where = "the store has the names that the images had where it was made"
            print(f"note: {missing} images of the sheet cannot be read from here; {where}", file=sys.stderr)
        print(f"sheet: {args.sheet}" + (f", of the first {MOST_QUERIES} queries" if len(found) > MOST_QUERIES else ""))


def part_of(args: argparse.Namespace) -> Part | None:
    """The part of the query that the user points at."""
    if args.at and args.box:
        raise UserError("--at and --box are both given; allowed: one of them")
    if args.at:
        return Part(*args.at, 1, 1, f"--at {args.at[0]} {args.at[1]}")
    if args.box:
        x, y, width, height = args.box
        if not width or not height:
            raise UserError(f"--box {x} {y} {width} {height} is empty; allowed: a width and a height from 1")
        return Part(y, x, height, width, f"--box {x} {y} {width} {height}")
    return None


def pixel(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: pixels, integers from 0")
    return int(text)


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "queries",
        nargs="+",
        metavar="QUERY",
        help="an image; also several, folders, patterns, lists in .txt files, .tar shards and tables of images",
    )
    parser.add_argument("--store", required=True, metavar="DIR", help="the store that is searched")
    parser.add_argument("--top", type=count, default=10, metavar="N", help="number of neighbours (default: 10)")
    parser.add_argument("--stage", type=stage_name, help="stage to compare, such as 2 (default: the store's last one)")
    parser.add_argument(
        "--metric",
        choices=METRICS,
        default="cosine",
        help="cosine: the similarity of directions, -1 to 1 (default). euclidean: the distance",
    )
    parser.add_argument(
        "--at",
        nargs=2,
        type=pixel,
        metavar=("ROW", "COLUMN"),
        help="search for the place of the query at this pixel, counted from 0. The store has maps or grids. The best "
        "place of each image is found, in pixels of the image as the network saw it",
    )
    parser.add_argument(
        "--box", nargs=4, type=pixel, metavar=("X", "Y", "W", "H"), help="search for this part of the query, in pixels"
    )
    parser.add_argument(
        "--index",
        choices=["exact", "faiss"],
        default="exact",
        help="exact: compare with all images (default). faiss: an index of FAISS beside the store, made at the "
        "first search and when the store has grown; of more than 50,000 images it may miss some neighbours",
    )
    parser.add_argument("--weights", help="where the store's weights are now (default: the place that it records)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the results as .json or .csv")
    parser.add_argument(
        "--sheet", type=Path, metavar="FILE.png", help="draw the queries and their neighbours, with the scores"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace files of --out and --sheet that a search wrote"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add_download_option(parser)
    return parser.parse_args()


def stage_name(text: str) -> str:
    """A stage's name in a store: of its number, or as it is."""
    return f"stage{text}" if text.isdecimal() else text


if __name__ == "__main__":
    run_tool(main)

"""Judges a backbone without training it: the classes of the nearest training images vote, by cosine similarity.

python tools/knn.py van_b2.in1k data/imagenet [--k 10,20,100,200] [--out results.json] [--cache features.safetensors]
python tools/knn.py work_dirs/my_run/epoch_300.pth my_config.py [--stages 2,3] [--pool gem]

Eight processes share the images: python tools/launch/launch.py 8 tools/knn.py van_b2.in1k data/imagenet
The temperature of the vote is 0.07, as in DINO's evaluation.
"""

import ziggurat.engine.start  # noqa: F401

import argparse

from ziggurat.engine.cli import Parser, run_tool


def main() -> None:
    from classification.frozen import options
    from classification.frozen.knn import KS, TEMPERATURE, check_ks, knn

    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_feature_options(parser)
    parser.add_argument(
        "--k",
        type=options.numbers(int),
        help=f"numbers of neighbours (default: {','.join(map(str, KS))}, as far as there are images)",
    )
    args = parser.parse_args()
    source = options.source_of(args)
    images = len(source.splits["train"])
    ks = args.k or [k for k in KS if k <= images] or [images]
    check_ks(ks, images, "--k")
    with options.features_for(source, args) as features:
        if features is None:
            return
        print(options.headline(features))
        rows = knn(features.train, features.val, len(source.classes), ks, device=source.extractor.device)
        print(f"{'k':>6}{'top-1':>9}{'top-5':>9}")
        for row in rows:
            print(f"{row['k']:>6}{row['top1']:>9.2f}{row['top5']:>9.2f}")
        options.write_results(args.out, "knn", features, {"temperature": TEMPERATURE, "results": rows})


if __name__ == "__main__":
    run_tool(main)

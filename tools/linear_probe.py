"""Judges a backbone by linear classifiers on its frozen features, one for each learning rate, trained at once.

python tools/linear_probe.py van_b2.in1k data/imagenet [--out results.json] [--cache features.safetensors]
python tools/linear_probe.py work_dirs/my_run/epoch_300.pth my_config.py [--rates 0.01,0.1] [--check]

A tenth of each class of train is held out and chooses the rate; val does not. tools/knn.py reads the same --cache.
"""

import ziggurat.engine.start  # noqa: F401

import argparse

from ziggurat.engine.cli import Parser, run_tool


def main() -> None:
    from classification.frozen import options
    from classification.frozen.logistic import check_installed, logistic_regression
    from classification.frozen.probe import RATES, check_grid, linear_probe
    from ziggurat.engine.console import say_note

    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_feature_options(parser)
    parser.add_argument(
        "--rates",
        type=options.numbers(float),
        default=list(RATES),
        help="learning rates for 256 images (default: 1e-5 to 0.1)",
    )
    parser.add_argument("--weight-decays", type=options.numbers(float), default=[0.0], help="of SGD (default: 0)")
    parser.add_argument("--epochs", type=options.at_least(1), default=100, help="default: 100")
    parser.add_argument(
        "--probe-batch-size", type=options.at_least(1), default=1024, help="images a step (default: 1024)"
    )
    parser.add_argument("--check", action="store_true", help="also fit scikit-learn's logistic regression")
    args = parser.parse_args()
    check_grid(args.rates, args.weight_decays)
    if args.check:
        check_installed()
    source = options.source_of(args)
    with options.features_for(source, args) as features:
        if features is None:
            return
        print(options.headline(features))
        found = linear_probe(
            features.train,
            features.val,
            len(source.classes),
            rates=args.rates,
            decays=args.weight_decays,
            epochs=args.epochs,
            batch_size=args.probe_batch_size,
            seed=args.seed,
            device=source.extractor.device,
        )
        print(f"{'rate':>9}{'decay':>9}{'held out':>10}{'top-1':>9}{'top-5':>9}")
        for point in found["grid"]:
            figures = [point[name] for name in ("held_out_top1", "top1", "top5")]
            absent = "diverged" if point["top1"] is None else "-"
            cells = [absent if figure is None else f"{figure:.2f}" for figure in figures]
            mark = "  best" if point is found["best"] else ""
            print(f"{point['rate']:>9g}{point['weight_decay']:>9g}{cells[0]:>10}{cells[1]:>9}{cells[2]:>9}{mark}")
        if len(args.rates) > 1 and found["best"]["rate"] in (min(args.rates), max(args.rates)):
            say_note(f"the best rate, {found['best']['rate']:g}, is at the end of --rates; widen them on that side")
        if args.check:
            found["logistic_regression"] = logistic_regression(features.train, features.val, args.seed)
            print(f"scikit-learn's logistic regression: top-1 {found['logistic_regression']['top1']:.2f}")
        settings = {"epochs": args.epochs, "batch_size": args.probe_batch_size, "seed": args.seed}
        options.write_results(args.out, "linear_probe", features, {"settings": settings, **found})


if __name__ == "__main__":
    run_tool(main)

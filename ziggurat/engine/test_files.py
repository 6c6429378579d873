"""The files that a test of the dense tasks writes: options of the metric that the config tests with."""

from typing import Any

from backbones.errors import UserError


def set_test_files(cfg: Any, theirs: str, ours: str, **options: Any) -> None:
    """Gives options to the metric of a config's test, in place.

    Args:
        cfg: a completed config.
        theirs: the type of mm's metric, which has no such options. Ours takes its place, with its arguments.
        ours: the type of our metric.
        **options: of our metric. One that is None is left out.

    Raises:
        UserError: the config tests with neither metric, or with several.
    """
    metrics = cfg.test_evaluator if isinstance(cfg.test_evaluator, list | tuple) else [cfg.test_evaluator]
    names = [name_of(metric["type"]) for metric in metrics]
    chosen = [metric for metric, name in zip(metrics, names) if name in (theirs, ours)]
    if len(chosen) != 1:
        raise UserError(f"--report and --results need one metric {ours} in test_evaluator; it has {', '.join(names)}")
    chosen[0].update({name: value for name, value in options.items() if value is not None}, type=ours)


def name_of(kind: Any) -> str:
    """The name of a type, given as a class or by its name with or without a scope."""
    return kind.rpartition(".")[2] if isinstance(kind, str) else kind.__name__

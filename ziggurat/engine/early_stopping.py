"""``early_stopping``: a training ends once its validations no longer improve."""

import math
from collections.abc import Mapping
from typing import Any

from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop

from backbones.checks import check_int
from backbones.errors import UserError, shown, unknown
from ziggurat.engine.console import say_note
from ziggurat.engine.tasks import task_for

RECORD = "early_stopping"  # the entry of a checkpoint's message hub: best score, where it was, validations since
KIND = "StopEarlyHook"
AUTO = "auto"  # mmengine's word for a metric that the first validation tells
RULES = ("greater", "less")
KEYS = ("patience", "min_delta", "monitor", "rule")
ALLOWED = "the number of validations without improvement, from 1 up, or a dict of patience, min_delta, monitor, rule"


@HOOKS.register_module(name=KIND, force=True)
class StopEarlyHook(Hook):
    """Ends a training after ``patience`` validations in a row without improvement. A checkpoint keeps the count.

    mmengine's EarlyStoppingHook forgets its count when a run is resumed, ends a run at the first NaN, and takes an
    equal score for an improvement.

    Args:
        patience: validations in a row without improvement.
        min_delta: an improvement is larger than this.
        monitor: the metric's name. None takes the first of ``metrics`` that a validation gives, else its first metric.
        rule: ``"greater"`` or ``"less"``: which values are better. None knows it of the usual metrics.
        metrics: names of a task's metrics, the most important first.
        keep_best: whether ``save_best`` of the checkpoints is of this metric, once a validation has told its name.
    """

    priority = "NORMAL"  # before a checkpoint of the validation's outcome is saved

    def __init__(
        self,
        patience: int = 5,
        min_delta: float = 0.0,
        monitor: str | None = None,
        rule: str | None = None,
        metrics: tuple[str, ...] = (),
        keep_best: bool = False,
    ):
        self.patience, self.min_delta, self.monitor, self.rule = patience, min_delta, monitor, rule
        self.metrics, self.keep_best = metrics, keep_best

    def before_train(self, runner: Any) -> None:
        """Ends a resumed run at once that had stopped early with this patience."""
        self.stop_if_due(runner, runner.message_hub.runtime_info.get(RECORD) or {})

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Counts the validation. One before the first step does not count.

        Raises:
            UserError: the validation has no such metric, or nobody knows whether larger values are better.
        """
        if not metrics or runner.iter == 0:
            return
        name = self.monitor or next((one for one in self.metrics if one in metrics), next(iter(metrics)))
        if name not in metrics:
            raise unknown("early_stopping.monitor", name, metrics)
        rule = self.rule or rule_of(name)
        if self.keep_best:
            save_best_of(runner, name, rule)
        score = float(metrics[name])
        record = dict(runner.message_hub.runtime_info.get(RECORD) or {})
        if record.get("name") != name:
            record = dict(name=name, best=math.nan, place="", waited=0)
        if self.is_better(score, record["best"], rule):
            record.update(best=score, place=place_of(runner), waited=0)
        else:
            record["waited"] += 1
        record["last"] = score
        runner.message_hub.update_info(RECORD, record)
        self.stop_if_due(runner, record)

    def is_better(self, score: float, best: float, rule: str) -> bool:
        if not math.isfinite(score):
            return False
        return math.isnan(best) or (score - best if rule == "greater" else best - score) > self.min_delta

    def stop_if_due(self, runner: Any, record: Mapping[str, Any]) -> None:
        if record.get("waited", 0) < self.patience or runner.train_loop.stop_training:
            return
        runner.train_loop.stop_training = True
        best = f"best {record['best']:.4g} in {record['place']}" if record["place"] else "no value was a number"
        line = (
            f"stopped early: {record['name']} {record['last']:.4g} has not improved for {record['waited']} "
            f"validation{'s' * (record['waited'] != 1)}, {best}"
        )
        runner.logger.info(line)
        say_note(line)


def use_early_stopping(cfg: Any) -> None:
    """Carries out ``cfg.early_stopping``, in place: the run gets the hook. False takes it out. None changes nothing.

    The metric is that of ``default_hooks.checkpoint.save_best``, unless the option names another one. Checkpoints
    without the entry ``save_best`` get one, since the best checkpoint would be removed before the run ends.

    Raises:
        UserError: a value is not allowed, or the config has no validation.
    """
    given = cfg.get("early_stopping")
    if given is None:
        return
    saving = (cfg.get("default_hooks") or {}).get("checkpoint") or {}
    hooks = list(cfg.get("custom_hooks") or [])
    others = [hook for hook in hooks if hook.get("type") != KIND]
    if any(hook.get("keep_best") for hook in hooks if hook not in others) and saving.get("save_best") == AUTO:
        del saving["save_best"]  # an earlier completion has written the entry
    if given is False:
        cfg.custom_hooks = others
        return
    options = checked(given)
    if cfg.get("train_dataloader") is not None and cfg.get("val_dataloader") is None:
        raise UserError("early_stopping counts validations, and the config has no val_dataloader; give one")
    best = saving.get("save_best")
    best = best[0] if isinstance(best, list | tuple) and best else best
    if options.get("monitor") is None and isinstance(best, str) and best != AUTO:
        options["monitor"] = best
        rules = saving.get("rule")
        options.setdefault("rule", rules[0] if isinstance(rules, list | tuple) and rules else rules)
    if saving and "save_best" not in saving:
        saving["save_best"], options["keep_best"] = AUTO, True
    cfg.custom_hooks = [*others, dict(options, type=KIND, metrics=task_for(cfg).main_metrics)]


def checked(given: Any) -> dict[str, Any]:
    """The option as the hook's arguments. Raises UserError for a value that is not allowed."""
    if isinstance(given, Mapping):
        for key in given:
            if key not in KEYS:
                raise unknown("early_stopping", key, KEYS)
        options = dict(given)
    elif isinstance(given, int) and not isinstance(given, bool) and given > 0:
        return dict(patience=given)
    else:
        raise UserError(f"early_stopping={shown(given)}; allowed: {ALLOWED}, or False")
    check_int("early_stopping.patience", options.setdefault("patience", 5), 1, None)
    delta = options.get("min_delta", 0)
    if isinstance(delta, bool) or not isinstance(delta, int | float) or not 0 <= delta < math.inf:
        raise UserError(f"early_stopping.min_delta is {shown(delta)}; allowed: numbers from 0 up")
    if options.get("monitor") is not None and not isinstance(options["monitor"], str):
        raise UserError(f"early_stopping.monitor is {shown(options['monitor'])}; allowed: the name of a metric")
    if options.get("rule") not in (None, *RULES):
        raise unknown("early_stopping.rule", options["rule"], RULES)
    return options


def save_best_of(runner: Any, name: str, rule: str) -> None:
    """Lets ``save_best="auto"`` of the checkpoints be of this metric; mmengine takes a validation's first one."""
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and hook.save_best and AUTO in hook.key_indicators:
            hook._init_rule([rule], [name])


def rule_of(name: str) -> str:
    """Whether greater values of a metric are better. Raises UserError for a metric that mmengine does not know."""
    try:
        return EarlyStoppingHook(name).rule
    except ValueError:
        if name.split("/")[-1] in ("PQ", "SQ", "RQ"):
            return "greater"
        raise UserError(
            f"early_stopping: whether greater {name} is better is not known; give rule: greater or less"
        ) from None


def place_of(runner: Any) -> str:
    """Where the run is, as its checkpoints are named: ``epoch_7`` or ``iter_4000``."""
    if isinstance(runner.train_loop, EpochBasedTrainLoop):
        return f"epoch_{runner.epoch}"
    return f"iter_{runner.iter}"

"""The small trainings that the kill harness ends: a classifier by iterations and by epochs, and a detector."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import dense_run
import paper_run
from yapf.yapflib import yapf_api

from backbones import VAN
from ziggurat.engine.summary import SummaryHook

ROOT = Path(__file__).resolve().parent.parent.parent
DETECTOR = next(leaf for leaf in dense_run.TASKS if leaf.startswith("detection/"))
HOOKS = [dict(type="EMAHook", momentum=0.1, update_buffers=True), dict(type="Reports")]


class Training(NamedTuple):
    """A training: its config, a function that writes its data into a new folder, and its options for these data."""

    config: Path
    write_data: Callable[[Path], Path]
    options_for: Callable[[Path], dict[str, Any]]


def classifier(**saving: Any) -> Training:
    """The paper's recipe with a validation after each epoch, whose calibration error makes every score another."""
    best = dict(save_best="ece", rule="greater")
    options = {
        "val_evaluator": [dict(type="Accuracy", topk=(1,)), dict(type="CalibrationError")],
        "default_hooks.checkpoint": {**best, **saving},
        "default_hooks.images": None,
        "custom_hooks": HOOKS,
    }
    return Training(
        paper_run.RECIPE, paper_run.write_images, lambda data: paper_run.validated_options_for(data, **options)
    )


TRAININGS = {
    "classifier, saved by iterations": classifier(by_epoch=False, interval=2, max_keep_ckpts=2),
    "classifier, saved by epochs": classifier(by_epoch=True, interval=1, max_keep_ckpts=1),
    "detector, saved by iterations": Training(
        ROOT / DETECTOR,
        lambda root: dense_run.write_data(DETECTOR, root),
        lambda data: dense_run.options_for(DETECTOR, data, custom_hooks=HOOKS),
    ),
}


def make_quick() -> None:
    """In this process VAN-B0 has one narrow block in each stage, configs are written unformatted, nothing is drawn.

    Formatting and drawing take longer than all steps of such a training.
    """
    VAN.ARCHS["van_b0"] = VAN.ARCHS["van_b0"]._replace(depths=(1, 1, 1, 1), embed_dims=(16, 32, 80, 128))
    yapf_api.FormatCode = lambda text, **_: (text, False)
    SummaryHook.draw = lambda hook, runner: None

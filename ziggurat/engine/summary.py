"""The summary of a training in its work dir: loss, learning rate and metrics as a picture and as a page."""

import html
import json
import time
from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop

from backbones.files import replaced_file
from ziggurat.engine.disk_faults import dispensable

PICTURE, PAGE = "summary.png", "summary.html"
IMAGES = "val_images.png"  # of ExtremesHook, where a task has one
IMAGES_TEXT = f'<h2>The worst and the best images of a validation</h2>\n<img src="{IMAGES}" alt="">\n'
PAUSE = 30.0  # seconds between two pictures, so that drawing takes no noticeable part of a training
SCALARS = "*/vis_data/scalars.json"  # of mmengine's LocalVisBackend, in each log folder of a work dir
PANELS = 9  # curves in the picture; the page's table has all metrics
RAW = "raw_"  # begins the metrics of RawMetricsHook
TIMES = ("data_time", "time", "step", "epoch", "iter", "memory", "lr", "base_lr", "loss", "grad_norm", "momentum")

PAGE_TEXT = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="refresh" content="60">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; }}
img {{ max-width: 100%; }}
h2 {{ font-size: 1.1em; }}
td, th {{ padding: 0.1em 1.2em 0.1em 0; text-align: right; }}
td:first-child, th:first-child {{ text-align: left; }}
</style>
<h1>{title}</h1>
<p>{moment}</p>
<img src="{picture}" alt="loss, learning rate and metrics over the training">
{images}<table><tr><th>metric</th><th>last</th><th>least</th><th>greatest</th></tr>
{rows}
</table>
"""


@HOOKS.register_module(force=True)
class SummaryHook(Hook):
    """Draws the curves of a run, and of the runs that it resumes, after validations and at the end.

    The figures are those in the scalars.json files of the work dir. The page loads itself again every minute.
    """

    priority = "LOWEST"

    def __init__(self) -> None:
        self.drawn = 0.0  # when the last picture was drawn, of time.monotonic()

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        if time.monotonic() - self.drawn > PAUSE:
            with dispensable("the summary"):
                self.draw(runner)

    def after_train(self, runner: Any) -> None:
        with dispensable("the summary"):
            self.draw(runner)

    @master_only
    def draw(self, runner: Any) -> None:
        folder = Path(runner.work_dir)
        by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        curves = read_curves(folder, len(runner.train_dataloader) if by_epoch else 1)
        if not curves:
            return
        title = Path(runner.cfg.filename or folder).stem
        figure = draw_curves(curves, "epoch" if by_epoch else "iteration")
        with replaced_file(folder / PICTURE) as beside:
            figure.savefig(beside, format="png", dpi=110)
        done, whole = (runner.epoch, runner.max_epochs) if by_epoch else (runner.iter, runner.max_iters)
        moment = f"{done} of {whole} {'epochs' if by_epoch else 'iterations'}, {time.strftime('%Y-%m-%d %H:%M:%S')}"
        with replaced_file(folder / PAGE) as beside:
            beside.write_text(page(title, moment, curves, (folder / IMAGES).is_file()))
        self.drawn = time.monotonic()


def read_curves(folder: Path, epoch_length: int = 1) -> dict[str, dict[float, float]]:
    """The curves in a work dir: name -> {position: value}.

    Positions are epochs, or iterations where ``epoch_length`` is 1. Where a resumed run repeats positions, its values
    count.

    Args:
        folder: the work dir. Its log folders are read in the order of their names, which are times.
        epoch_length: batches of an epoch.
    """
    curves: dict[str, dict[float, float]] = {}
    for path in sorted(folder.glob(SCALARS)):
        for line in path.read_text().splitlines():
            try:
                values = json.loads(line)
            except ValueError:  # the last line of a run that was killed
                continue
            trains = "loss" in values
            names = ("loss", "lr") if trains else [name for name in values if name not in TIMES]
            position = values.get("step", 0) / (epoch_length if trains else 1)
            for name in names:
                if isinstance(values.get(name), int | float):
                    curves.setdefault(name, {})[position] = values[name]
    return curves


def draw_curves(curves: dict[str, dict[float, float]], unit: str) -> Any:
    """A figure with the loss, the learning rate, and each metric beside that of the trained weights.

    Args:
        curves: as from :func:`read_curves`.
        unit: of positions, ``"epoch"`` or ``"iteration"``.
    """
    from matplotlib.figure import Figure

    panels = [name for name in curves if not name.startswith(RAW)][:PANELS]
    rows = -(-len(panels) // 3)
    figure = Figure(figsize=(12, 3.2 * rows), layout="constrained")
    for number, name in enumerate(panels, 1):
        axes = figure.add_subplot(rows, 3, number, title=name, xlabel=unit)
        pairs = [(name, "averaged" if RAW + name in curves else None), (RAW + name, "trained")]
        for key, label in pairs:
            if key in curves:
                points = sorted(curves[key].items())
                mark = "." if len(points) < 50 else None
                axes.plot(*zip(*points, strict=True), mark or "-", linestyle="-", linewidth=1.2, label=label)
        axes.grid(alpha=0.3)
        if RAW + name in curves:
            axes.legend()
    return figure


def page(title: str, moment: str, curves: dict[str, dict[float, float]], images: bool = False) -> str:
    """The page: the picture, that of the best and the worst ``images`` if there is one, and a table.

    The table has the last, least and greatest value of each metric.
    """
    rows = []
    for name, points in curves.items():
        values = [points[position] for position in sorted(points)]
        cells = "".join(f"<td>{value:.4g}</td>" for value in (values[-1], min(values), max(values)))
        rows.append(f"<tr><td>{html.escape(name)}</td>{cells}</tr>")
    return PAGE_TEXT.format(
        title=html.escape(title),
        moment=html.escape(moment),
        picture=PICTURE,
        images=IMAGES_TEXT if images else "",
        rows="\n".join(rows),
    )

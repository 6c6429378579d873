"""mmseg's metrics, counted exactly, with names for the classes that the ground truth lacks, and a report."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import MMLogger
from mmseg.evaluation import IoUMetric
from mmseg.registry import METRICS
from torch import Tensor

from backbones.errors import UserError, shorten, unknown
from segmentation.report import write_report
from ziggurat.engine.console import say_note

METRIC_NAMES = ("mIoU", "mDice", "mFscore")


@METRICS.register_module()
class FullIoUMetric(IoUMetric):
    """mmseg's IoUMetric from a confusion matrix of all pixels. Its figures are the same, in percent.

    A mean is that of the classes for which a figure is defined. A class that the ground truth lacks has no ``Acc``; its
    ``IoU`` is 0 if it is predicted anywhere, and else not defined. The first time, a note names such classes. A mean
    without any class is None, not nan.

    Args:
        iou_metrics: one or several of "mIoU" (gives ``mIoU`` and ``mAcc``), "mDice" (``mDice`` and ``mAcc``) and
            "mFscore" (``mFscore``, ``mPrecision`` and ``mRecall``).
        report: the folder to write :func:`segmentation.report.write_report` to.
        image_folders: of the data. The predictions lie in folders below ``output_dir`` that are named like those of the
            images below ``image_folders``. Predictions of other images lie in ``output_dir`` itself.
        **kwargs: as for IoUMetric. ``output_dir`` is the folder for the predictions, one PNG of class indices an image.
            ``nan_to_num`` counts in place of a figure that is not defined.

    Raises:
        UserError: a metric is not one of these.
    """

    def __init__(
        self,
        iou_metrics: str | Sequence[str] = ("mIoU",),
        report: str | None = None,
        image_folders: Sequence[str] = (),
        **kwargs: Any,
    ):
        names = [iou_metrics] if isinstance(iou_metrics, str) else list(iou_metrics)
        for name in names:
            if name not in METRIC_NAMES:
                raise unknown("metric", name, METRIC_NAMES)
        super().__init__(iou_metrics=names, **kwargs)
        self.report = report
        self.image_folders = [Path(folder).resolve() for folder in image_folders]
        self.noted = False

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        if not self.output_dir:
            super().process(data_batch, data_samples)
            return
        whole = self.output_dir
        try:
            for sample in data_samples:
                folder = Path(whole) / self.place_of(Path(sample["img_path"]).resolve())
                folder.mkdir(parents=True, exist_ok=True)
                self.output_dir = str(folder)
                super().process(data_batch, [sample])
        finally:
            self.output_dir = whole

    def place_of(self, path: Path) -> Path:
        """The folder of an image, seen from the one of ``image_folders`` that holds it."""
        places = (path.parent.relative_to(folder) for folder in self.image_folders if path.is_relative_to(folder))
        return next(places, Path())

    @staticmethod
    def intersect_and_union(
        pred_label: Tensor, label: Tensor, num_classes: int, ignore_index: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of true and predicted class in an image, and how many pixels have each; mmseg's method calls this.

        Args:
            pred_label: (H, W), class indices.
            label: (H, W), class indices and ``ignore_index``.
            num_classes: K.
            ignore_index: the label of pixels that do not count.

        Returns:
            (N,) int64, true class times K plus predicted class; (N,) int64, numbers of pixels.
        """
        kept = label != ignore_index
        true, predicted = label[kept].long(), pred_label[kept].long()
        if predicted.numel() and int(predicted.max()) >= num_classes:
            raise UserError(
                f"the model predicts class {int(predicted.max())}, counted from 0, and the data have {num_classes} "
                "classes; allowed: a checkpoint and data with the same classes"
            )
        counts = torch.bincount(true * num_classes + predicted, minlength=num_classes**2).cpu().numpy()
        pairs = np.flatnonzero(counts)
        return pairs, counts[pairs]

    def compute_metrics(self, results: list[Any]) -> dict[str, float | None]:
        if self.format_only:
            return {}
        classes = [str(name) for name in self.dataset_meta["classes"]]
        counts = np.zeros(len(classes) ** 2, np.int64)
        for pairs, pixels in results:
            counts[pairs] += pixels
        counts = counts.reshape(len(classes), len(classes))
        figures = self.figures(counts)
        overall = figures.pop("aAcc")
        means = {f"m{name}": mean_of(values) for name, values in figures.items()}
        numbers = {"aAcc": float(overall) if counts.sum() else None, **means}
        self.tell(classes, counts, figures)
        if self.report:
            write_report(Path(self.report), classes, counts, figures, numbers, len(results))
        return numbers

    def figures(self, counts: np.ndarray) -> dict[str, Any]:
        """``aAcc``, and by mmseg's names an array (K,) for each figure of a class, in percent; nan: not defined."""
        both, true, predicted = (
            torch.from_numpy(one.astype(np.float64)) for one in (counts.diagonal(), counts.sum(1), counts.sum(0))
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of divisions by nothing
            found = self.total_area_to_metrics(
                both, true + predicted - both, predicted, true, self.metrics, self.nan_to_num, self.beta
            )
        return {name: 100 * np.asarray(values, np.float64) for name, values in found.items()}

    def tell(self, classes: list[str], counts: np.ndarray, figures: dict[str, np.ndarray]) -> None:
        """Logs the figures of the classes. The first time, a note names the classes that the ground truth lacks."""
        lines = [
            "  ".join([name, *(f"{key} {values[i]:.2f}" for key, values in figures.items() if not np.isnan(values[i]))])
            for i, name in enumerate(classes)
        ]
        MMLogger.get_current_instance().info("figures of the classes, in percent\n" + "\n".join(lines))
        if self.noted:
            return
        self.noted = True
        if not counts.sum():
            say_note("no pixel of the ground truth has a label, so nothing is scored")
            return
        absent = [name for name, pixels in zip(classes, counts.sum(1)) if not pixels]
        wrong = [name for name, pixels, times in zip(classes, counts.sum(1), counts.sum(0)) if not pixels and times]
        if absent:
            said = f"not in the ground truth: {len(absent)} of {len(classes)} classes: {shorten(absent, 10)}"
            zero = f"; predicted all the same, and so with IoU 0: {shorten(wrong, 10)}" if wrong else ""
            say_note(said + zero)


def mean_of(values: np.ndarray) -> float | None:
    """The mean of the values that are defined; None if none is."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else None

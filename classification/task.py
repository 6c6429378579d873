"""Classification, for tools, runs and ``ziggurat.engine.Predictor``."""

import numpy as np

from backbones.checks import check_size
from backbones.errors import UserError
from backbones.pixels import picture
from backbones.reading import reading_of
from backbones.weights.evaluation import Evaluation
from classification import views
from classification.data import as_tensor, build_transform, prepare_config
from classification.data.images import decoded
from classification.data.own_data import apart
from classification.data.transforms import size_of, transformable
from classification.extremes import ImagesHook
from classification.imagenet import word_of
from classification.model import CRITERIA, Classifier, predictions
from classification.published import predicting_config
from classification.random_data import RandomImages
from classification.real_labels import use_real_labels
from classification.report import use_report
from classification.report_page import report_page
from classification.test_sets import metrics_of, use_images
from classification.training_checks import check_pairs, check_start
from classification.tta import FiveCrops, number_of_views, use_views, with_five_crops
from ziggurat.engine.draw import draw_scores, side_by_side
from ziggurat.engine.extremes import show_images_in
from ziggurat.engine.normalisation import statistics_of
from ziggurat.engine.results import Scores
from ziggurat.engine.splits import datasets_of
from ziggurat.engine.task import Task
from ziggurat.engine.wrappers import unwrap

SHOWN = 5  # number of classes drawn and described for an image, best first
MIN_DRAWN = 192  # pixels; samples below half this width are enlarged when drawn


class Classification(Task):
    """Scores of an image's classes, on mmengine alone."""

    name, scope, result_type = "classification", "mmengine", Scores
    main_metrics = ("top1", "top5", "unreadable")
    images_hook = ImagesHook.__name__
    losses = CRITERIA
    exported_free = ("batch",)

    def complete(self, cfg):
        prepare_config(cfg)

    def findings(self, cfg, split, thorough=False, decode=False, seen=None):
        yield from super().findings(cfg, split, thorough, decode, seen)
        yield from apart(cfg, split)

    def class_names(self, cfg):
        dataset = (cfg.get("test_dataloader") or {}).get("dataset") or {}
        return list(dataset.get("classes") or [f"class {i}" for i in range(cfg.model.num_classes)])

    def preprocessing(self, cfg):
        dataset = cfg.test_dataloader.dataset
        in_crops = dataset.type == FiveCrops.__name__
        dataset = dataset.dataset if in_crops else dataset
        reading = reading_of(dataset.get("reading"))
        transform = build_transform(dataset.transform, reading.channels)
        transform = with_five_crops(transform) if in_crops else transform

        def run(image):
            name = "image" if isinstance(image, np.ndarray) else str(image)
            image = transformable(image) if isinstance(image, np.ndarray) else decoded(image, None, reading)
            check_size(name, *size_of(image)[::-1])
            return {"inputs": as_tensor(transform(image))}

        return run

    def counted_size(self, cfg):
        """The crops of testing, else of training; 224 pixels for data that do not say."""
        loaders = (cfg.get(name) or {} for name in ("test_dataloader", "train_dataloader"))
        sizes = [((one.get("dataset") or {}).get("transform") or {}).get("input_size") for one in loaders]
        side = next((size for size in sizes if size), 224)
        return side, side

    def exported(self, model):
        return model

    def samples_of_export(self, cfg, outputs, data_samples):
        (logits,) = outputs
        return predictions(logits, [None] * len(logits) if data_samples is None else data_samples.tolist())

    def random_data(self, cfg):
        return dict(type=RandomImages.__name__, classes=cfg.model.get("num_classes", 1))

    def loss_places(self, cfg, name):
        if cfg.model.get("type") != Classifier.__name__:
            raise UserError(
                f"loss={name}: {cfg.model.get('type')} has a loss of its own; allowed: Classifier, or no loss"
            )
        cfg.model.setdefault("criterion", "cross_entropy")
        return [("model.criterion", cfg.model, "criterion")]

    def result(self, output, names):
        scores = output["scores"].cpu().numpy()
        labels = np.argsort(-scores, kind="stable")
        return Scores(scores[labels], labels, [str(names[i]) for i in labels])

    def describe(self, result):
        scores = [round(float(score), 6) for score in result.scores[:SHOWN]]
        return {"labels": result.labels[:SHOWN].tolist(), "categories": result.names[:SHOWN], "scores": scores}

    def use_tta(self, cfg, views=None):
        use_views(cfg, views or "flip")

    def use_test_options(self, cfg, names, report=None, results=None, images=None, real_labels=None):
        if results:
            raise UserError(
                "--results is for detection and segmentation; tools/predict.py --format csv lists classifications"
            )
        if report:
            use_report(cfg, report, names)
            show_images_in(cfg, self.images_hook, report)
        if images:
            use_images(cfg, images, names)
        if real_labels:
            use_real_labels(cfg, names, None if real_labels is True else real_labels)

    def describe_testing(self, cfg, model):
        net = unwrap(model)
        transform = next((dataset.get("transform") or {} for dataset in datasets_of(cfg, "test")), {})
        parts = [Evaluation.of(transform)]
        for name, values in zip(("mean", "std"), statistics_of(net, cfg), strict=True):
            parts += [f"{name} ({', '.join(f'{value:.4g}' for value in values)})"] if values else []
        allowed = next((metric.subset for metric in metrics_of(cfg) if metric.get("subset")), None)
        if isinstance(net, Classifier):
            parts.insert(0, f"{f'{len(allowed)} of ' if allowed else ''}{net.num_classes} classes")
        if cfg.model.get("type") == "AveragedViews":
            parts.append(f"{number_of_views(cfg.model.views)} views an image")
        return ", ".join(map(str, parts))

    def published_config(self, weights, options):
        return predicting_config(weights, options)

    def shown_name(self, name):
        return word_of(name)

    def check_training(self, cfg, model, loader):
        if isinstance(model, Classifier):
            check_pairs(model, loader)
            check_start(cfg, model)

    def draw(self, image, result, palette):
        return draw_scores(image, result.names[:SHOWN], result.scores[:SHOWN])

    def annotated(self, dataset, index):
        return views.annotated(dataset, index)

    def statistics(self, dataset, sample):
        return views.statistics(dataset, sample)

    def report_page(self, content, folder):
        return report_page(content, folder)

    def draw_sample(self, sample, metainfo):
        crops = sample["inputs"] if isinstance(sample["inputs"], list) else [sample["inputs"]]
        has_label = "data_samples" in sample
        title = metainfo["classes"][int(sample["data_samples"])] if has_label else ""
        titles = [title if has_label else "x".join(map(str, crop.shape[:0:-1])) for crop in crops]
        return side_by_side([enlarged(picture(crop.permute(1, 2, 0).numpy())) for crop in crops], titles)


def enlarged(image):
    return image.resize([side * max(1, MIN_DRAWN // image.width) for side in image.size])


TASK = Classification()

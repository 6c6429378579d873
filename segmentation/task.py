"""Segmentation, for tools, runs and ``ziggurat.engine.Predictor``."""

import numpy as np

from segmentation import views
from segmentation.class_map import forget_scores
from segmentation.data import classes_of, prepare_config
from segmentation.exported import check_runtime, exported, samples_of_export
from segmentation.extremes import MapImagesHook
from segmentation.losses import LOSSES, loss_places
from segmentation.own_data import apart
from segmentation.random_data import RandomAreas
from segmentation.repeated import RepeatedMasks
from segmentation.report_page import report_page
from segmentation.tiles import use_tiles
from segmentation.weights import WEIGHTS
from segmentation.windows import use_windows
from ziggurat.engine.draw import draw_classes, make_palette
from ziggurat.engine.extremes import show_images_in
from ziggurat.engine.images import from_bgr, through_pipeline
from ziggurat.engine.results import ClassMap
from ziggurat.engine.splits import datasets_of, under_root
from ziggurat.engine.task import Task
from ziggurat.engine.test_files import set_test_files


class Segmentation(Task):
    """A class for every pixel, by mmseg."""

    name, scope, result_type = "segmentation", "mmseg", ClassMap
    main_metrics = ("mIoU", "mAcc")
    images_hook = MapImagesHook.__name__
    losses = LOSSES
    repeated = RepeatedMasks.__name__

    def complete(self, cfg):
        prepare_config(cfg)

    def findings(self, cfg, split, thorough=False, decode=False, seen=None):
        yield from super().findings(cfg, split, thorough, decode, seen)
        yield from apart(cfg, split)

    def class_names(self, cfg):
        dataset = (cfg.get("test_dataloader") or {}).get("dataset") or {}
        return list(classes_of(dataset))

    def preprocessing(self, cfg):
        return through_pipeline(cfg.test_dataloader.dataset.pipeline)

    def loss_places(self, cfg, name):
        return loss_places(cfg, name)

    def published_models(self):
        return WEIGHTS

    def counted_size(self, cfg):
        """The height of the training crops, and four times their width: 512x2048, or 640x2560."""
        height, width = self.training_size(cfg, None)
        return height, 4 * width

    def training_size(self, cfg, asked):
        """The training's crops, else 512x512."""
        steps = (cfg.get("train_dataloader") or {}).get("dataset", {}).get("pipeline") or []
        crops = [tuple(step["crop_size"]) for step in steps if step["type"] == "RandomCrop"]
        return asked or next(iter(crops), (512, 512))

    def counted_pass(self, model, images):
        return model(images, mode="tensor")

    def exported(self, model):
        return exported(model)

    def check_runtime(self, cfg):
        check_runtime(cfg)

    def samples_of_export(self, cfg, outputs, data_samples):
        return samples_of_export(cfg, outputs, data_samples)

    def random_data(self, cfg):
        return dict(type=RandomAreas.__name__, classes=len(self.class_names(cfg)))

    def result(self, output, names):
        indices = output.pred_sem_seg.data[0].cpu().numpy()
        return ClassMap(indices.astype(np.uint8 if len(names) <= 256 else np.uint16), [str(name) for name in names])

    def use_tiles(self, cfg, tiles):
        use_windows(cfg, tiles)

    def predict_on_tiles(self, cfg, tiles):
        if "module" in cfg.model:  # test-time augmentation, which needs the scores of the whole image
            use_windows(cfg, tiles)
        else:
            use_tiles(cfg, tiles)

    def build_for_prediction(self, cfg):
        model = self.build_model(cfg)
        if hasattr(model, "postprocess_result"):  # no wrapper
            forget_scores(model)
        return model

    def use_test_files(self, cfg, report, results):
        folders = None
        if results:
            prefixes = [(dataset, dataset.get("data_prefix") or {}) for dataset in datasets_of(cfg, "test")]
            folders = [str(under_root(dataset, prefix.get("img_path") or "")) for dataset, prefix in prefixes]
        options = dict(report=report, output_dir=results, image_folders=folders)
        set_test_files(cfg, "IoUMetric", "FullIoUMetric", **options)
        if report:
            show_images_in(cfg, self.images_hook, report)

    def describe(self, result):
        indices, names = result.class_map, result.names
        counts = np.bincount(indices.ravel(), minlength=len(names))
        present = [
            {"index": int(i), "name": names[i], "fraction": round(counts[i] / indices.size, 6)}
            for i in np.argsort(-counts, kind="stable")
            if counts[i]
        ]
        return {"width": indices.shape[1], "height": indices.shape[0], "classes": present}

    def draw(self, image, result, palette):
        return draw_classes(image, result.class_map, result.names, palette)

    def annotated(self, dataset, index):
        return views.annotated(dataset, index)

    def statistics(self, dataset, sample):
        return views.statistics(dataset, sample)

    def report_page(self, content, folder):
        return report_page(content, folder)

    def draw_sample(self, sample, metainfo):
        image, mask = from_bgr(sample["inputs"]), sample["data_samples"].gt_sem_seg.data[0].numpy()
        if mask.shape != (image.height, image.width):  # testing loads masks after the resizes
            image = image.resize(mask.shape[::-1])
        classes = metainfo["classes"]
        return draw_classes(image, mask, classes, metainfo.get("palette") or make_palette(len(classes)))


TASK = Segmentation()

"""Predictor: a trained model of any task, as a function from images to results."""

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import FUNCTIONS
from PIL import Image
from torch import Tensor, nn

from backbones.checks import check_int
from backbones.errors import UserError, shown
from backbones.features import ImageLike
from backbones.files import is_exported
from backbones.images import read_image
from backbones.pixels import picture
from backbones.weights import read_checkpoint, read_own_meta
from backbones.weights.fetch import locate
from ziggurat.engine.arguments import check_given, device_of, names_of, options_of, pixels_of, refuse_contradictions
from ziggurat.engine.checkpoints import content_of_run, load_published, load_state
from ziggurat.engine.config import apply_options, load_config
from ziggurat.engine.image_batches import batches_of, collate_name, described
from ziggurat.engine.mistakes import config_mistakes
from ziggurat.engine.normalisation import follow_statistics
from ziggurat.engine.num_classes import set_num_classes
from ziggurat.engine.own_config import building, carries_config, config_from
from ziggurat.engine.published import published_model
from ziggurat.engine.reading import reading_of_dataset, use_reading
from ziggurat.engine.results import Result, check_same_size
from ziggurat.engine.structure import settle_structure
from ziggurat.engine.tasks import task_for, task_of_published
from ziggurat.engine.tiles import tiles_of
from ziggurat.engine.video_results import predicted_frames
from ziggurat.engine.videos import Frame, open_video
from ziggurat.engine.wrappers import unwrap


class Predictor:
    """A model with its weights and its test preprocessing.

    A checkpoint of this project carries its config: ``Predictor("epoch_12.pth")``. A published model needs none:
    ``Predictor("van_b2.in1k")``, ``Predictor("upernet_van_b2_512x512_160k_ade20k")``. Any other checkpoint needs the
    config that it was trained with: ``Predictor("config.py", "weights.pth")``. Example::

        predictor = engine.Predictor("work_dirs/mask_rcnn_van_b2_fpn_1x_coco/epoch_12.pth", device="cuda")
        found = predictor("street.jpg")  # found.boxes, found.masks, found.scores, found.names
        predictor.draw("street.jpg", found.above(0.5)).save("street_found.png")

    Args:
        config_or_checkpoint: a checkpoint of this project; or a published classifier, as a name of
            ``backbones.list_weights()``, a URL or a file; or a published detector or segmenter of docs/weights.md, by
            its config's name; or a config, as a file or as ``load_config`` returns it; or a whole model that ``ziggurat
            export`` wrote: .onnx, .xml, .pt2 or .torchscript. The last two are programs: open those that you trust.
        checkpoint: the weights, if a config is given. Every tensor must fit.
        device: where to compute, e.g. ``"cuda"``, or a GPU's number; ``"cpu"`` by default.
        cfg_options: changes of the config, as for ``load_config``. One text is one option. The checkpoint decides the
            classes and the network's structure.
        batch_size: number of images that are computed at a time, 1 or more. A batch has images of one size after
            preprocessing, so no result depends on the other images.
        tile: the side of overlapping tiles in pixels, 32 or more, for images larger than those of the training. A
            detector gets tiles of the image, a segmenter tiles of the resized image, ``batch_size`` at a time. What
            they show is joined, without seams and in bounded memory. None takes whole images.
        tile_overlap: the share of a tile that its neighbour also shows, from 0 to less than 1; 0.25 by default.
        tta: predict with test-time augmentation: a detector or segmenter as its config's ``tta_model`` and
            ``tta_pipeline`` say; a classifier by the mean over an image and its mirror image, or over the views that
            ``"flip"``, ``"five"`` or ``"ten"`` name.
        runtime: compute the network by ``"onnxruntime"`` or ``"openvino"``, on the CPU. It is exported first: for all
            sizes where possible, else for each new size of preprocessed images, which takes seconds. None takes
            PyTorch, and the own runtime of an exported file. If that has one size, images are padded at the right and
            at the bottom, after larger ones were resized to fit.

    Attributes:
        task: the config's task, an ``ziggurat.engine.task.Task``.
        cfg: the completed config. A checkpoint alone gives the part that predicting needs.
        model: the network, in eval mode on ``device``.
        names: the class names, by index. A class that is named by its WordNet id has the word for it, "tench".
        palette: an RGB colour, 0..255, for each class.
        reading: the rule by which image files are read, a ``backbones.reading.Reading``: that of the training, unless
            ``cfg_options`` say another, such as ``reading.upright=False``.

    Raises:
        UserError: a file is absent or cannot be read, a checkpoint carries no config or one that would run code,
            weights do not fit, an option contradicts the checkpoint, the device is not available, or the model cannot
            take tiles.
    """

    def __init__(
        self,
        config_or_checkpoint: str | Path | Config,
        checkpoint: str | Path | None = None,
        device: str | torch.device | None = None,
        cfg_options: list[str] | dict[str, Any] | None = None,
        batch_size: int = 1,
        tile: int | None = None,
        tile_overlap: float | None = None,
        tta: bool | str = False,
        runtime: str | None = None,
    ):
        self.batch_size = check_int("batch_size", batch_size, 1, None)
        self.tiles = None if tile is None and tile_overlap is None else tiles_of(tile, tile_overlap)
        if not isinstance(tta, bool | str) or tta == "":
            raise UserError(f"tta is {shown(tta)}; allowed: False, True, or a word for the views of a classifier")
        self.tta = tta
        self.device = device_of(device)
        given, options = config_or_checkpoint, options_of(cfg_options)
        check_given(given, checkpoint)
        if is_exported(given) or runtime is not None:
            from ziggurat.engine import runtimes  # needs seconds
        if is_exported(given):
            runtimes.open_exported(self, given, runtime, options)
            return
        if runtime is not None:
            runtimes.check_runtime(runtime, self.device)  # before weights are downloaded
        if checkpoint is None and not isinstance(given, Config):
            given, checkpoint = published_model(given) or (given, None)
        if checkpoint is None and not carries_config(given):
            self.open_published(str(given), options)
        else:
            self.open_checkpoint(given, checkpoint, options)
        self.model.to(self.device).eval()
        if runtime is not None:
            runtimes.compute_by(self, runtime)

    def open_published(self, weights: str, options: dict[str, Any]) -> None:
        """Builds the model of published weights, and loads them; arguments and errors as for the class."""
        self.task = task_of_published()
        self.cfg, names = self.task.published_config(weights, options)
        with config_mistakes(self.cfg):
            self.build(names)
        settle_structure(self.model, None, exact=True)
        load_published(unwrap(self.model))

    def open_checkpoint(self, given: Any, checkpoint: str | Path | None, options: dict[str, Any]) -> None:
        """Builds the model of a config, and loads the checkpoint; arguments and errors as for the class."""
        source = str(given if checkpoint is None else checkpoint)
        content = read_checkpoint(locate(None, source) if checkpoint is None else source)
        own = read_own_meta(content) or {}
        state = content_of_run(content)["state_dict"]
        names = names_of(content, own, source)
        if checkpoint is None:
            self.cfg = config_from(own.get("config"), source)
        else:
            self.cfg = copy.deepcopy(given) if isinstance(given, Config) else load_config(given, options)
        if checkpoint is None or isinstance(given, Config):
            apply_options(self.cfg, options, Path(self.cfg.filename or "config"))
        if self.cfg.get("test_dataloader") is None:
            raise UserError(f"config {self.cfg.filename} has no test_dataloader, whose preprocessing predicting needs")
        if own.get("backbone") and not any("backbone." in name for name in state):
            raise UserError(f"{source} holds only a backbone; allowed: a checkpoint of a whole model")

        self.task = task_for(self.cfg)
        self.task.follow_checkpoint(self.cfg, own, source)
        with building(source) if checkpoint is None else contextlib.nullcontext(), config_mistakes(self.cfg):
            self.build(names)
        load_state(self.model, state, source, exact=True, own=own or None)
        refuse_contradictions(options, self.model, names, source)
        follow_statistics(self.model, self.cfg, own or None, source)

    def build(self, names: Sequence[str] | None, builder: Callable[[Config], nn.Module] | None = None) -> None:
        """Builds the model and its preprocessing. ``names`` are those of its classes; None takes the config's.

        ``builder`` gives the model of the completed config; None builds the network.
        """
        if names:
            set_num_classes(self.cfg.model, len(names))
        self.names = [self.task.shown_name(str(name)) for name in names or self.task.class_names(self.cfg)]
        self.palette = self.task.palette(self.cfg, len(self.names))
        use_reading(self.cfg, self.task.scope_of(self.cfg))
        self.reading = reading_of_dataset(self.cfg.test_dataloader.dataset)
        if self.tta:
            self.task.use_tta(self.cfg, None if self.tta is True else self.tta)
        if self.tiles is not None:
            if self.cfg.get("test_dataloader"):
                self.cfg.test_dataloader.batch_size = self.batch_size
            self.task.predict_on_tiles(self.cfg, self.tiles)
        self.model = (builder or self.task.build_for_prediction)(self.cfg)
        with self.task.scoped(self.cfg):
            self.prepare = self.task.preprocessing(self.cfg)
            self.collate = FUNCTIONS.get(collate_name(self.cfg))

    def __call__(self, images: ImageLike | Iterable[ImageLike]) -> Result | list[Result]:
        """Predicts.

        Args:
            images: one image or several, of any sizes from 32x32 pixels up. An image is a path, a PIL image, an array
                (H, W, 3) or (H, W), or a tensor (3, H, W). One tensor (B, 3, H, W) is B images. Channels are RGB.
                Integers are 0..255, uint16 0..65535, floats 0..1, unless ``reading`` has a range. A file is read by
                the rule ``reading``, which turns photographs upright by default. A PIL image is not turned. A network
                of other channels takes arrays, tensors, TIFF and NumPy files of as many.

        Returns:
            ``Scores``, ``Instances`` or ``ClassMap`` of ``ziggurat.engine.results``: one for a single image, else a
            list. Boxes, masks and class maps are in the image's own pixels.

        Raises:
            UserError: an image cannot be read, is too small, or has another shape or range. Nothing is returned then.
        """
        if isinstance(images, Tensor) and images.ndim == 4:
            images = list(images)
        if not isinstance(images, ImageLike | Iterable) or isinstance(images, dict | bytes):
            raise UserError(f"images is {type(images).__name__}; allowed: an image, or several in a list")
        if isinstance(images, ImageLike):
            return self([images])[0]
        results: dict[int, Result] = {}
        for number, result in self.each(images):
            if isinstance(result, UserError):
                raise result
            results[number] = result
        return [results[number] for number in sorted(results)]

    def each(self, images: Iterable[ImageLike], num_workers: int = 0) -> Iterator[tuple[int, Result | UserError]]:
        """Predicts image by image, for many images of which some may be unreadable.

        Args:
            images: as for a call of the predictor. With workers a list.
            num_workers: processes that read and prepare images, 0 or more. 0 uses this process.

        Yields:
            An image's number in the input, and its result, or the error of an image that has none. An image comes when
            its batch is complete, so images of other sizes may come before it.
        """
        for numbers, samples in batches_of(images, self.sample, self.batch_size, num_workers):
            try:
                results: list[Any] = [samples] if isinstance(samples, UserError) else self.predict(samples)
            except UserError as error:
                results = [error] * len(numbers)
            yield from zip(numbers, results, strict=True)

    def video(
        self, source: str | Path, every: int = 1, max_frames: int | None = None
    ) -> Iterator[tuple[Frame, Result]]:
        """Predicts frame by frame, ``batch_size`` frames at a time. The frames come in their order. Example::

            for frame, found in predictor.video("street.mp4"):
                print(frame.index, frame.time, found.names)
                predictor.draw(frame.pixels, found).save(f"{frame.index}.png")

        Args:
            source: a file; ``webcam`` or ``webcam:1`` for a camera of this machine; or an address of ``rtsp:``.
            every: 2 takes every second frame, and so on.
            max_frames: the most frames that are predicted; None for all.

        Yields:
            A frame, with its index, its time in seconds and its pixels, and the frame's result.

        Raises:
            UserError: there is no such video or device, it cannot be read, or its frames are too small.
        """
        every = check_int("every", every, 1, None)
        most = None if max_frames is None else check_int("max_frames", max_frames, 1, None)
        with contextlib.closing(open_video(source)) as video:
            yield from predicted_frames(self, video, every, most)

    def sample(self, image: ImageLike) -> dict[str, Any] | UserError:
        """The preprocessed sample of an image, or the error of an image that cannot be read."""
        try:
            return self.prepare(image if isinstance(image, str | Path) else pixels_of(image, self.reading))
        except UserError as error:
            return error

    @torch.no_grad()
    def predict(self, samples: list[dict[str, Any]]) -> list[Result]:
        """The results of preprocessed samples, as one batch. UserError if they are too small after preprocessing."""
        try:
            outputs = self.model.test_step(self.collate(samples))
        except UserError as error:  # of the network, which knows neither the image nor its own size
            raise UserError(f"{described(samples[0])}; after preprocessing, {error}") from error
        return [self.task.result(output, self.names) for output in outputs]

    def draw(self, image: ImageLike, result: Result) -> Image.Image:
        """A result drawn on its image, RGB. ``image`` is one image, as for a call of the predictor.

        Of more than three channels the first three are shown as RGB.
        """
        if isinstance(image, str | Path):
            image = read_image(image, reading=self.reading)
        else:
            image = picture(pixels_of(image, self.reading))
        self.check_result(result)
        check_same_size(result, image)
        return self.task.draw(image, result, self.palette)

    def describe(self, result: Result) -> dict[str, Any]:
        """A result as a dict of JSON's types."""
        self.check_result(result)
        return self.task.describe(result)

    def check_result(self, result: Any) -> None:
        """Raises UserError for anything but a result of this predictor's task."""
        if not isinstance(result, self.task.result_type):
            allowed = f"{self.task.result_type.__name__}, the result of one image"
            raise UserError(f"result is {type(result).__name__}; allowed: {allowed}")

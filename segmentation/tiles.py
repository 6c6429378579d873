"""Segmenters that predict an image window by window, in bounded memory."""

from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.model import BaseTTAModel
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from segmentation.class_map import ClassMapWriter
from segmentation.joining import Joining, spans_of
from ziggurat.engine.tile_progress import followed
from ziggurat.engine.tiles import Tiles


@MODELS.register_module()
class TiledSegmenter(BaseTTAModel):
    """A segmenter that sees overlapping windows of the resized image. Their scores are joined without seams.

    Memory holds the image, its class map, and the scores of the pixels that later windows still change; see
    :mod:`segmentation.joining`. The scores of the whole image are never in memory. mmseg's mode "slide", which
    published results are tested with, keeps them and takes plain averages.

    Input: ``inputs``, (3, H, W) of each image after the pipeline, and ``data_samples``. Output: these samples with
    ``pred_sem_seg`` in the image's own size, and without ``seg_logits``.

    Args:
        module: the segmenter, or its config.
        size, overlap: as for :class:`ziggurat.engine.tiles.Tiles`.
        batch_size: number of windows that are computed at a time.
        **kwargs: as for BaseTTAModel.
    """

    def __init__(self, module: Any, size: int, overlap: float, batch_size: int = 1, **kwargs: Any):
        super().__init__(module, **kwargs)
        self.tiles = Tiles(size, overlap)
        self.batch_size = batch_size

    def test_step(self, data: Any) -> list[Any]:
        samples = zip(data["inputs"], data["data_samples"], strict=True)
        return self.merge_preds([[sample, self.class_map(image, sample.metainfo)] for image, sample in samples])

    def merge_preds(self, data_samples_list: list[Any]) -> list[Any]:
        """The samples with their class maps, from pairs of both."""
        for sample, indices in data_samples_list:
            sample.pred_sem_seg = PixelData(data=torch.from_numpy(indices)[None])
        return [sample for sample, _ in data_samples_list]

    def class_map(self, image: Tensor, metainfo: dict[str, Any]) -> Any:
        """The class of every pixel, a numpy array (height, width), of an image (3, H, W) after the pipeline."""
        size, head = tuple(image.shape[-2:]), self.module.decode_head
        rows, columns = (spans_of(length, self.tiles) for length in size)
        threshold = getattr(head, "threshold", None)
        writer = ClassMapWriter(size, metainfo["ori_shape"][:2], self.module.align_corners, threshold)
        joining = Joining(rows, columns, writer.add)
        places = [(i, j) for i in range(len(rows)) for j in range(len(columns))]
        for start in followed(range(0, len(places), self.batch_size), len(places), self.batch_size):
            batch = places[start : start + self.batch_size]
            windows = [image[:, rows[i].start : rows[i].end, columns[j].start : columns[j].end] for i, j in batch]
            for (i, j), scores in zip(batch, self.scores(windows, metainfo), strict=True):
                joining.add(scores, i, j)
        return writer.indices

    def scores(self, windows: list[Tensor], metainfo: dict[str, Any]) -> Tensor:
        """The scores (N, C, h, w) of N windows of one size."""
        height, width = windows[0].shape[-2:]
        samples = [SegDataSample(metainfo={**metainfo, "img_shape": (height, width)}) for _ in windows]
        data = self.module.data_preprocessor(dict(inputs=windows, data_samples=samples), False)
        padded = data["inputs"].shape[2:]  # to what the network can take
        metas = [{**one.metainfo, "img_shape": padded, "pad_shape": padded} for one in data["data_samples"]]
        return self.module.encode_decode(data["inputs"], metas)[:, :, :height, :width]


def use_tiles(cfg: Any, tiles: Tiles) -> None:
    """Changes a config in place to predict in windows. As many as the test loader has images are computed at a time."""
    cfg.model = ConfigDict(
        type="TiledSegmenter",
        module=cfg.model,
        size=tiles.size,
        overlap=tiles.overlap,
        batch_size=cfg.test_dataloader.get("batch_size", 1),
    )

"""Detectors that look at an image tile by tile, for images larger than those of the training."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask

from backbones.errors import UserError
from detection.run_lengths import placed, run_lengths
from detection.tile_merging import Cluster, clusters_of
from ziggurat.engine.images import kind_of
from ziggurat.engine.splits import datasets_of
from ziggurat.engine.tile_progress import followed
from ziggurat.engine.tiles import Tiles

META_KEYS = ("img_id", "img_path", "ori_shape", "img_shape")


@MODELS.register_module()
class TiledDetector(BaseTTAModel):
    """A detector that sees overlapping tiles of an image, each as if it were a whole image.

    The detections of all tiles are put into the image. Those of one object become one, class by class, as
    :mod:`detection.tile_merging` says: the box and mask of a tile that shows the object whole, else the union of the
    parts. Memory holds the image, the tiles of one batch, and run lengths of masks.

    Input: ``inputs``, (3, H, W) of each image as it was read, and ``data_samples``. Output: these samples, whose
    ``pred_instances`` have the highest score first. ``masks`` is a list of COCO's run lengths.

    Args:
        module: the detector, or its config.
        pipeline: the test pipeline's steps after the loading, which every tile goes through.
        size, overlap: as for :class:`ziggurat.engine.tiles.Tiles`.
        batch_size: number of tiles that are computed at a time.
        **kwargs: as for BaseTTAModel.
    """

    def __init__(
        self, module: Any, pipeline: Sequence[Any], size: int, overlap: float, batch_size: int = 1, **kwargs: Any
    ):
        super().__init__(module, **kwargs)
        self.prepare = Compose(pipeline)
        self.tiles = Tiles(size, overlap)
        self.batch_size = batch_size

    def test_step(self, data: Any) -> list[Any]:
        return [self.predict_image(*one) for one in zip(data["inputs"], data["data_samples"], strict=True)]

    def predict_image(self, image: torch.Tensor, sample: Any) -> Any:
        size = tuple(image.shape[-2:])
        windows, found = self.tiles.windows(*size), []
        for start in followed(range(0, len(windows), self.batch_size), len(windows), self.batch_size):
            batch = windows[start : start + self.batch_size]
            tiles = [self.prepare(tile_of(image, window, sample.metainfo)) for window in batch]
            found += [compact(output) for output in self.module.test_step(pseudo_collate(tiles))]
        return self.merge_preds([[sample, windows, found, size]])[0]

    def merge_preds(self, data_samples_list: Sequence[Any]) -> list[Any]:
        """The samples of some images, with the merged detections.

        Args:
            data_samples_list: of each image: the sample, the tiles' windows, the tiles' detections, (height, width).
        """
        for sample, windows, found, size in data_samples_list:
            sample.pred_instances = merged(found, windows, size)
            sample.set_metainfo(dict(ori_shape=size, img_shape=size))
        return [one[0] for one in data_samples_list]


def tile_of(image: torch.Tensor, window: tuple[int, int, int, int], metainfo: dict[str, Any]) -> dict[str, Any]:
    """A tile as mm's loading step would give an image."""
    left, top, right, bottom = window
    pixels = np.ascontiguousarray(image[:, top:bottom, left:right].permute(1, 2, 0).numpy())
    height, width = shape = pixels.shape[:2]
    loaded = dict(img=pixels, img_shape=shape, ori_shape=shape, height=height, width=width, seg_fields=[])
    return dict(img_path=metainfo.get("img_path"), img_id=metainfo.get("img_id", 0), **loaded)


def compact(output: Any) -> InstanceData:
    """A tile's detections on the CPU, with masks as run lengths."""
    if "pred_instances" not in output:
        raise UserError("tiles need a detector of boxes or masks; this one predicts neither")
    found = output.pred_instances.cpu()
    found.bboxes = getattr(found.bboxes, "tensor", found.bboxes)
    if "masks" in found:
        found.masks = run_lengths(found.masks)
    return found


def merged(found: Sequence[InstanceData], windows: Sequence[tuple], size: tuple[int, int]) -> InstanceData:
    """The objects of an image of ``size`` (height, width) from the detections of its tiles."""
    joined, places = InstanceData.cat(list(found)), np.asarray(windows)
    tiles = np.repeat(np.arange(len(found)), [len(one) for one in found])
    boxes = joined.bboxes.numpy().astype(np.float64) + np.tile(places[tiles, :2], 2)
    if len(windows) > 1:  # RTMDet's boxes may end in the padding
        boxes = np.clip(boxes, np.tile(places[tiles, :2], 2), np.tile(places[tiles, 2:], 2))
    clusters = clusters_of(boxes, joined.scores.numpy(), joined.labels.numpy(), tiles, places, size)
    kept = joined[torch.tensor([one.members[0] for one in clusters], dtype=torch.long)]
    united = [union_of(boxes[one.members[:1] if one.whole else one.members]) for one in clusters]
    kept.bboxes = torch.tensor(np.array(united).reshape(-1, 4), dtype=joined.bboxes.dtype)
    kept.scores = torch.tensor([one.score for one in clusters], dtype=joined.scores.dtype)
    if "masks" in joined:
        kept.masks = [mask_of(one, joined.masks, places[tiles], size) for one in clusters]
    return kept


def union_of(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])


def mask_of(cluster: Cluster, masks: Sequence[dict[str, Any]], windows: np.ndarray, size: tuple[int, int]) -> Any:
    """Run lengths of an object in the image, from those of its members in their tiles."""
    members = cluster.members[:1] if cluster.whole else cluster.members
    placed_masks = [placed(coco_mask.decode(masks[i]), windows[i, :2], size) for i in members]
    return placed_masks[0] if len(placed_masks) == 1 else coco_mask.merge(placed_masks)


def use_tiles(cfg: Any, tiles: Tiles) -> None:
    """Changes a config in place to test on tiles. As many tiles as the test loader has images are computed at a time.

    Raises:
        UserError: the config is of a panoptic model.
    """
    if is_panoptic(cfg.model):
        raise UserError("tiles of a panoptic model cannot be merged; allowed: detectors of boxes or masks")
    pipeline = next(dataset.pipeline for dataset in datasets_of(cfg, "test"))
    cfg.model = ConfigDict(
        type="TiledDetector",
        module=cfg.model,
        pipeline=[step for step in pipeline if not kind_of(step).startswith("Load")],
        size=tiles.size,
        overlap=tiles.overlap,
        batch_size=cfg.test_dataloader.get("batch_size", 1),
    )
    for dataset in datasets_of(cfg, "test"):
        packing = [step for step in dataset.pipeline if kind_of(step) == "PackDetInputs"]
        keys = packing[-1].get("meta_keys", META_KEYS) if packing else META_KEYS
        loading = [step for step in dataset.pipeline if kind_of(step).startswith("Load")]
        dataset.pipeline = [*loading, dict(type="PackDetInputs", meta_keys=keys)]


def is_panoptic(model: Any) -> bool:
    """Whether a model's config predicts panoptic maps."""
    while "module" in model:
        model = model["module"]
    fusion = model.get("panoptic_fusion_head")
    if fusion is None:
        return False
    return model["type"] == "PanopticFPN" or bool((model.get("test_cfg") or {}).get("panoptic_on", True))

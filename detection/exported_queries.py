"""Detectors of queries as modules with outputs of fixed length: Deformable DETR and DINO. They need no suppression."""

import copy
import types
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.ops import MultiScaleDeformableAttention
from mmdet.models.detectors import DINO, DeformableDETR
from torch import Tensor, nn

from detection.exported_boxes import Boxes, best, sides_of, size_of

DETECTORS = (DeformableDETR, DINO)


class QueryDetector(nn.Module):
    """A detector of queries for one image, which fills the network's input.

    Args:
        model: one of ``DETECTORS``. A copy of it is changed.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = copy.deepcopy(model)
        self.model.pre_transformer = types.MethodType(flattened, self.model)
        self.model.gen_encoder_output_proposals = types.MethodType(proposed, self.model)
        self.model.encoder.get_encoder_reference_points = centres_for
        for module in self.model.modules():
            if isinstance(module, MultiScaleDeformableAttention):
                module.forward = types.MethodType(attended, module)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        head = self.model.bbox_head
        logits, boxes = head(**self.model.forward_transformer(self.model.extract_feat(image), None))
        logits, boxes = logits[-1][0], boxes[-1][0]  # of the last layer
        scores, rows, labels = chosen(head, logits, head.test_cfg.get("max_per_img", len(logits)))
        middle, half = boxes[rows].view(-1, 2, 2).unbind(dim=1)
        size = size_of(image).flip(0)
        corners = [(middle + sign * half / 2) * size for sign in (-1, 1)]
        corners = [torch.minimum(corner.clamp(min=0), size) for corner in corners]
        return tuple(best(Boxes(torch.cat(corners, dim=1), scores, labels), len(scores)))


def chosen(head: nn.Module, logits: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best ``count`` scores, and their queries and labels. ``logits`` are (Q, classes)."""
    if head.loss_cls.use_sigmoid:
        scores, places = logits.sigmoid().flatten().topk(count)
        return scores, places // head.num_classes, places % head.num_classes
    scores, labels = logits.softmax(dim=-1)[:, :-1].max(dim=-1)
    scores, rows = scores.topk(count)
    return scores, rows, labels[rows]


def flattened(model: Any, maps: Sequence[Tensor], _: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """mmdet's ``pre_transformer`` for maps without borders. The sizes of levels are numbers, not tensors."""
    shapes = [tuple(values.shape[-2:]) for values in maps]
    rows = [values.flatten(2).transpose(1, 2) for values in maps]
    places = [model.positional_encoding(None, input=values).flatten(2).transpose(1, 2) for values in maps]
    places = [place + model.level_embed[level] for level, place in enumerate(places)]
    shared = dict(
        spatial_shapes=shapes, level_start_index=None, valid_ratios=maps[0].new_ones(len(maps[0]), len(maps), 2)
    )
    of_encoder = dict(feat=torch.cat(rows, dim=1), feat_mask=None, feat_pos=torch.cat(places, dim=1))
    return of_encoder | shared, dict(memory_mask=None) | shared


def centres(shape: tuple[int, int], like: Tensor) -> Tensor:
    """The centres of a map's pixels as x and y in 0..1, row by row: (h * w, 2), of the type of ``like``.

    mmdet's ``linspace`` would keep the size that a record is made with.
    """
    y, x = ((torch.arange(side, dtype=like.dtype, device=like.device) + 0.5) / side for side in shape)
    return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1).flatten(0, 1)


def centres_for(spatial_shapes: Sequence[tuple[int, int]], valid_ratios: Tensor, device: Any) -> Tensor:
    """mmdet's ``get_encoder_reference_points`` for maps without borders: (B, S, L, 2)."""
    found = torch.cat([centres(shape, valid_ratios) for shape in spatial_shapes])
    return found[None, :, None].expand(len(valid_ratios), -1, len(spatial_shapes), -1)


def proposed(model: Any, memory: Tensor, _: None, spatial_shapes: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """mmdet's ``gen_encoder_output_proposals`` for maps without borders: features (B, S, C), boxes (B, S, 4)."""
    places = [centres(shape, memory) for shape in spatial_shapes]
    sides = [torch.full_like(place, 0.05 * 2.0**level) for level, place in enumerate(places)]
    boxes = torch.cat((torch.cat(places), torch.cat(sides)), dim=1)[None].expand(len(memory), -1, -1)
    inside = ((boxes > 0.01) & (boxes < 0.99)).all(dim=-1, keepdim=True)
    boxes = torch.log(boxes / (1 - boxes)).masked_fill(~inside, float("inf"))
    memory = model.memory_trans_norm(model.memory_trans_fc(memory.masked_fill(~inside, 0.0)))
    return memory, boxes


def attended(
    attention: Any,
    query: Tensor,
    key: Tensor | None = None,
    value: Tensor | None = None,
    identity: Tensor | None = None,
    query_pos: Tensor | None = None,
    key_padding_mask: None = None,
    reference_points: Tensor | None = None,
    spatial_shapes: Sequence[tuple[int, int]] = (),
    level_start_index: None = None,
    **_: Any,
) -> Tensor:
    """The pass of mmcv's ``MultiScaleDeformableAttention``, with the sizes of levels as numbers.

    Shapes: batch first or not, as the module says; ``reference_points`` (B, Q, L, 2 or 4).
    """
    value = query if value is None else value
    identity = query if identity is None else identity
    query = query if query_pos is None else query + query_pos
    if not attention.batch_first:
        query, value = query.transpose(0, 1), value.transpose(0, 1)
    batch, queries, _ = query.shape
    heads, levels, points = attention.num_heads, attention.num_levels, attention.num_points
    value = attention.value_proj(value).view(batch, value.shape[1], heads, -1)
    offsets = attention.sampling_offsets(query).view(batch, queries, heads, levels, points, 2)
    weights = attention.attention_weights(query).view(batch, queries, heads, levels * points).softmax(-1)
    references = reference_points[:, :, None, :, None]
    if references.shape[-1] == 2:
        extents = torch.stack([sides_of(shape, offsets).flip(0) for shape in spatial_shapes])
        places = references + offsets / extents[:, None]
    else:
        places = references[..., :2] + offsets / points * references[..., 2:] * 0.5
    found = attention.output_proj(gathered(value, spatial_shapes, places, weights))
    return (found if attention.batch_first else found.transpose(0, 1)) + identity


def gathered(value: Tensor, shapes: Sequence[tuple[int, int]], places: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of samples.

    Args:
        value: (B, S, heads, D), the pixels of all levels.
        shapes: height and width of each level.
        places: (B, Q, heads, L, P, 2), x and y in 0..1.
        weights: (B, Q, heads, L * P).

    Returns:
        (B, Q, heads * D)
    """
    batch, _, heads, depth = value.shape
    queries = places.shape[1]
    grids = (2 * places - 1).permute(3, 0, 2, 1, 4, 5).flatten(1, 2)  # (L, B * heads, Q, P, 2)
    samples = []
    for part, grid, (height, width) in zip(
        value.split([height * width for height, width in shapes], dim=1), grids, shapes, strict=True
    ):
        maps = part.permute(0, 2, 3, 1).reshape(batch * heads, depth, height, width)
        samples.append(F.grid_sample(maps, grid, align_corners=False))
    weights = weights.transpose(1, 2).reshape(batch * heads, 1, queries, -1)
    sums = (torch.cat(samples, dim=-1) * weights).sum(dim=-1)  # (B * heads, D, Q)
    return sums.view(batch, heads * depth, queries).transpose(1, 2)

"""The heads of `make demo-full`: where their leaves are, what makes them small, and what scores them."""

from dataclasses import dataclass, field
from typing import Any

WIDTH = 64  # channels of necks and heads; group norms of 32 groups need two channels each
POINTS = 1024  # at which Mask2Former compares masks
BACKGROUND = 0.2  # the background's class weight; nine pixels in ten are background
BOX = {"box_ap": "coco/bbox_mAP", "box_ap50": "coco/bbox_mAP_50"}
MASK = {"mask_ap": "coco/segm_mAP", "mask_ap50": "coco/segm_mAP_50"}
PQ, MIOU, TOP1 = {"pq": "coco_panoptic/PQ"}, {"miou": "mIoU"}, {"top1": "top1"}
DIGITS = [str(digit) for digit in range(10)]


@dataclass(frozen=True)
class Head:
    """A head that a leaf config of some families has.

    Attributes:
        title: its name in tables.
        task: the folder of its configs.
        leaf: its leaf is ``configs/<family>/<leaf>_<arch>_*<ending>.py``.
        ending: see ``leaf``.
        data: the kind of training data: "boxes", "masks", "panoptic" or "labels".
        metrics: name in the results -> name among the metrics of the test.
        options: what makes the head small, and the class weights.
        rate: the learning rate.
        clip: the largest norm of a step's gradients.
    """

    title: str
    task: str
    leaf: str
    ending: str
    data: str
    metrics: dict[str, str]
    options: dict[str, Any] = field(default_factory=dict)
    rate: float = 8e-4
    clip: float = 5.0


def dense(**options: Any) -> dict[str, Any]:
    """Options of a dense detector from stride 8 on: small boxes, few candidates."""
    return {
        "model.neck.out_channels": WIDTH,
        "model.bbox_head.in_channels": WIDTH,
        "model.bbox_head.feat_channels": WIDTH,
        "model.test_cfg.nms_pre": 200,
        "model.test_cfg.max_per_img": 20,
        **{f"model.{key}": value for key, value in options.items()},
    }


def two_stage(stages: int) -> dict[str, Any]:
    """Options of an R-CNN with one or more stages: few proposals, two samples a bin."""
    head: dict[str, Any] = {"in_channels": WIDTH, "fc_out_channels": 256}
    if stages > 1:
        head |= {"num_shared_convs": 1, "conv_out_channels": WIDTH}
    training = {"sampler.num": 32}
    options = {
        "model.neck.out_channels": WIDTH,
        "model.rpn_head.in_channels": WIDTH,
        "model.rpn_head.feat_channels": WIDTH,
        "model.rpn_head.anchor_generator.scales": [6],
        "model.roi_head.mask_head.in_channels": WIDTH,
        "model.roi_head.mask_head.conv_out_channels": WIDTH,
        "model.roi_head.mask_head.num_convs": 2,
        "model.train_cfg.rpn.sampler.num": 128,
        "model.train_cfg.rpn_proposal.nms_pre": 200,
        "model.train_cfg.rpn_proposal.max_per_img": 100,
        "model.test_cfg.rpn.nms_pre": 200,
        "model.test_cfg.rpn.max_per_img": 50,
        "model.test_cfg.rcnn.max_per_img": 20,
    }
    for part in ("bbox", "mask"):
        options[f"model.roi_head.{part}_roi_extractor.out_channels"] = WIDTH
        options[f"model.roi_head.{part}_roi_extractor.roi_layer.sampling_ratio"] = 2
    for stage in range(stages):
        number = f".{stage}" if stages > 1 else ""
        options |= {f"model.roi_head.bbox_head{number}.{key}": value for key, value in head.items()}
        options |= {f"model.train_cfg.rcnn{number}.{key}": value for key, value in training.items()}
    return options


def transformer(part: str, attentions: tuple[str, ...], layers: int, feed: int = 128) -> dict[str, Any]:
    """Options that make a transformer narrow and shallow."""
    wide = {f"{name}.embed_dims": WIDTH for name in (*attentions, "ffn_cfg")}
    heads = {f"{name}.num_heads": 4 for name in attentions}
    sizes = {
        f"layer_cfg.{key}": value for key, value in {**wide, **heads, "ffn_cfg.feedforward_channels": feed}.items()
    }
    return {f"{part}.{key}": value for key, value in {**sizes, "num_layers": layers}.items()}


def mask2former(head: str, settings: str) -> dict[str, Any]:
    """Options of Mask2Former, whose head is ``head`` and whose settings of training are ``settings``."""
    decoder, pixels = f"{head}.transformer_decoder", f"{head}.pixel_decoder"
    return {
        **transformer(decoder, ("self_attn_cfg", "cross_attn_cfg"), layers=3),
        **transformer(f"{pixels}.encoder", ("self_attn_cfg",), layers=1),
        f"{head}.feat_channels": WIDTH,
        f"{head}.out_channels": WIDTH,
        f"{head}.num_queries": 20,
        f"{head}.positional_encoding.num_feats": WIDTH // 2,
        f"{pixels}.positional_encoding.num_feats": WIDTH // 2,
        f"{settings}.num_points": POINTS,
    }


def segmenter(*parts: str, **options: Any) -> dict[str, Any]:
    """Options of a segmenter whose ``parts`` have narrow maps and a loss with weights of the classes."""
    weights = [BACKGROUND, *[1.0] * len(DIGITS)]
    small = {f"{part}.channels": WIDTH for part in parts}
    weighted = {f"{part}.loss_decode.class_weight": weights for part in parts}
    return {f"model.{key}": value for key, value in {**small, **weighted, **options}.items()}


INSTANCES = {
    **mask2former("model.panoptic_head", "model.train_cfg"),
    "model.data_preprocessor.batch_augments": None,
    "model.test_cfg.max_per_image": 20,
}
SLOW = dict(rate=5e-4, clip=1.0)  # transformers
DECODE, BOTH = ("decode_head",), ("decode_head", "auxiliary_head")
CLASSIFIER = "classifier"
HEADS = {
    CLASSIFIER: Head("classifier", "classification", "", "", "labels", TOP1, rate=3e-3),
    "retinanet": Head(
        "RetinaNet",
        "detection",
        "retinanet",
        "_coco",
        "boxes",
        BOX,
        dense(**{"bbox_head.anchor_generator.octave_base_scale": 3}),
    ),
    "mask_rcnn": Head("Mask R-CNN", "detection", "mask_rcnn", "_coco", "masks", BOX | MASK, two_stage(1)),
    "cascade_mask_rcnn": Head(
        "Cascade Mask R-CNN", "detection", "cascade_mask_rcnn", "_coco", "masks", BOX | MASK, two_stage(3)
    ),
    "atss": Head("ATSS", "detection", "atss", "_coco", "boxes", BOX, dense()),
    "gfl": Head("GFL", "detection", "gfl", "_coco", "boxes", BOX, dense()),
    "rtmdet": Head(
        "RTMDet",
        "detection",
        "rtmdet",
        "_coco",
        "boxes",
        BOX,
        dense(**{"neck.num_csp_blocks": 1}) | {"custom_hooks": []},  # its average of weights takes thousands of steps
    ),
    "dino": Head(
        "DINO",
        "detection",
        "dino",
        "_coco",
        "boxes",
        BOX,
        {
            **transformer("model.encoder", ("self_attn_cfg",), layers=2),
            **transformer("model.decoder", ("self_attn_cfg", "cross_attn_cfg"), layers=3),
            "model.neck.out_channels": WIDTH,
            "model.positional_encoding.num_feats": WIDTH // 2,
            "model.num_queries": 50,
            "model.bbox_head.embed_dims": WIDTH,
            "model.test_cfg.max_per_img": 20,
        },
        **SLOW,
    ),
    "mask2former_instance": Head(
        "Mask2Former, instance", "detection", "mask2former", "_coco", "masks", BOX | MASK, INSTANCES, **SLOW
    ),
    "mask2former_panoptic": Head(
        "Mask2Former, panoptic",
        "detection",
        "mask2former",
        "_coco_panoptic",
        "panoptic",
        PQ,
        INSTANCES | {"model.test_cfg.object_mask_thr": 0.1},  # mmdet's 0.8 is above the scores of a short training
        **SLOW,
    ),
    "mask2former_semantic": Head(
        "Mask2Former, semantic",
        "segmentation",
        "mask2former",
        "_ade20k",
        "masks",
        MIOU,
        mask2former("model.decode_head", "model.decode_head.train_cfg"),
        **SLOW,
    ),
    "upernet": Head(
        "UPerNet",
        "segmentation",
        "upernet",
        "_ade20k",
        "masks",
        MIOU,
        segmenter(*BOTH, **{"decode_head.pool_scales": (2, 4)}),  # the last map has 4 x 4 places
    ),
    "semantic_fpn": Head(
        "Semantic FPN",
        "segmentation",
        "semantic_fpn",
        "_ade20k",
        "masks",
        MIOU,
        segmenter(*DECODE, **{"neck.out_channels": WIDTH, "decode_head.in_channels": [WIDTH] * 4}),
    ),
    "segformer": Head("SegFormer", "segmentation", "segformer", "_ade20k", "masks", MIOU, segmenter(*DECODE)),
    "light_ham": Head(
        "Light-Ham",
        "segmentation",
        "light_ham",
        "_ade20k",
        "masks",
        MIOU,
        segmenter(*DECODE, **{"decode_head.ham_channels": WIDTH}),
    ),
    "hamnet": Head(
        "HamNet",
        "segmentation",
        "hamnet",
        "_ade20k",
        "masks",
        MIOU,
        segmenter(*BOTH, **{"decode_head.ham_channels": WIDTH}),
    ),
    "deeplabv3plus": Head(
        "DeepLabV3+",
        "segmentation",
        "deeplabv3plus",
        "_ade20k",
        "masks",
        MIOU,
        segmenter(*BOTH, **{"decode_head.c1_channels": 16}),
    ),
}

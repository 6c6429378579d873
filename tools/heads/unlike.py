"""What a user changes beside the channels in some configs, and the models that do not take another network here."""

from fnmatch import fnmatch
from typing import Any

from choose import config_folder

# mmdet's necks and heads without a pyramid between them and the network. A layer of 1x1 convolutions widens the map.
ONE_MAP = dict(type="ChannelMapper", in_channels="backbone", kernel_size=1, num_outs=1)
SSD_CHANNELS = [64, 160, 512, 256, 256, 256]
ONE_WIDTH = {"neck.embed_dim": 192, "decode_head.in_channels": [192] * 4, "auxiliary_head.in_channels": 192}
TEXT = "reads text: needs transformers and nltk, and downloads BERT"
VIDEO = "tracks objects in videos, which is another task; its detector is in another row"
TWO_STREAMS = "its heads take the two or three streams of its own network"

# Patterns of config names. ``why``: not tried, and the reason. Else what a user sets: keys of the model (``model``),
# arguments of our network (``backbone``), other keys of the config (``config``). For the trial: pixels of an image's
# sides (``size``), pixels to one of the semantic map (``semantic_stride``), keys of the model that have nothing to do
# with the network (``trial``).
ROWS: dict[str, dict[str, Any]] = {
    "mmdet::glip/*": dict(why=TEXT),
    "mmdet::grounding_dino/*": dict(why=TEXT),
    "mmdet::mm_grounding_dino/*": dict(why=TEXT),
    "mmdet::bytetrack/bytetrack_*": dict(why=VIDEO),
    "mmdet::deepsort/deepsort_*": dict(why=VIDEO),
    "mmdet::masktrack_rcnn/*": dict(why=VIDEO),
    "mmdet::mask2former_vis/*": dict(why=VIDEO),
    "mmdet::ocsort/*": dict(why=VIDEO),
    "mmdet::qdtrack/*": dict(why=VIDEO),
    "mmdet::sort/sort_*": dict(why=VIDEO),
    "mmdet::strongsort/strongsort_*": dict(why=VIDEO),
    "mmdet::reid/*": dict(why="tells people apart by one vector, and needs mmpretrain"),
    "mmdet::misc/d2_*": dict(why="wraps models of detectron2, with their networks"),
    "mmdet::clrnet/*": dict(why="finds lanes, which is another task; line_nms itself is backed"),
    "mmdet::detectors/*rfp*": dict(why="its recursive pyramid feeds back into DetectoRS's own networks"),
    "mmdet::tridentnet/*": dict(why="its branches are those of its own network"),
    "mmdet::c*net/*hourglass*": {
        "backbone": dict(out_indices=(0,)),
        "model": {
            "neck": ONE_MAP | dict(_delete_=True, out_channels=256),
            "bbox_head.in_channels": 256,
            "bbox_head.num_feat_levels": 1,  # theirs has two hourglasses
        },
    },
    "mmdet::*caffe[-_]c4*": {"model": {"neck": ONE_MAP | dict(out_channels=1024), "rpn_head.in_channels": 1024}},
    "mmdet::rpn/*c4*": {  # after the row above, since its config says neck=None
        "model": {"neck": ONE_MAP | dict(_delete_=True, out_channels=1024), "rpn_head.in_channels": 1024}
    },
    "mmdet::*caffe-dc5*": {
        "model": {"roi_head.bbox_head.in_channels": 256, "roi_head.bbox_roi_extractor.out_channels": 256}
    },
    "mmdet::*ssd300*": {
        "size": 300,
        "backbone": dict(out_indices=(1, 2)),
        "model": {"neck.out_channels": SSD_CHANNELS, "bbox_head.in_channels": SSD_CHANNELS},
    },
    "mmdet::*htc_*": dict(semantic_stride=8),
    "mmdet::scnet/*": dict(semantic_stride=8),
    "mmdet::*dino-4scale*": dict(size=256),  # theirs takes the best 900 places
    "mmdet::v3det/dino-4scale*": dict(size=256, config={"train_cfg.val_interval": 82512}),  # theirs is no integer
    "mmdet::queryinst/*": dict(trial={"test_cfg.rcnn.max_per_img": 100}),  # as many as it has queries
    "mmdet::lad/*": dict(trial={"teacher_ckpt": None}),
    "mmdet::ld/*": dict(
        trial={
            "teacher_ckpt": None,
            "teacher_config": str(config_folder("mmdet") / "gfl/gfl_r101_fpn_ms-2x_coco.py"),
        }
    ),
    "mmseg::ddrnet/*": dict(why=TWO_STREAMS),
    "mmseg::pidnet/*": dict(why=TWO_STREAMS),
    "mmseg::dpt/*": dict(why="its head takes the class token of a vision transformer"),
    "mmseg::san/*": dict(why="joins a side network to CLIP's own, with its text"),
    "mmseg::vpd/*": dict(why="estimates depth from a diffusion model's own network"),
    "mmseg::beit/*": dict(model=ONE_WIDTH),
    "mmseg::mae/*": dict(model=ONE_WIDTH),
    "mmseg::bisenetv2/*": dict(model={f"auxiliary_head.{i}.in_index": i for i in range(4)}),  # theirs has five maps
    # Its head takes the third map, and has no convolution of its own.
    "mmseg::cgnet/*": dict(backbone=dict(out_indices=(0, 1, 2)), model={"decode_head.channels": 160}),
    "mmseg::mobilenet_v3/*": dict(size=512, backbone=dict(output_stride=8)),  # its head pools windows of 49x49
    "mmseg::segmenter/*fcn*": dict(model={"decode_head.channels": 192}),  # its head has no convolution of its own
    "mmseg::unet/*": dict(model={"decode_head.in_index": 3, "auxiliary_head.in_index": 2}),  # theirs has five maps
    # The neck asks for a tuple. The auxiliary head takes a map that the neck leaves as it was.
    "mmseg::fastfcn/*": dict(model={"neck.in_channels": (64, 160, 256), "auxiliary_head.in_channels": 160}),
}


def unlike(name: str) -> dict[str, Any]:
    """What :data:`ROWS` says of a config, all patterns that fit it joined."""
    found: dict[str, Any] = {}
    for pattern, special in ROWS.items():
        if fnmatch(name, pattern):
            found |= special
    return found

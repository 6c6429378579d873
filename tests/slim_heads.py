"""Options that make dense heads small, and those of the recommended starts by the names of their leaves."""

WIDTH = 64  # group norms of 32 groups need two values each on a 1x1 map
DENSE = {
    "model.neck.out_channels": WIDTH,
    "model.bbox_head.in_channels": WIDTH,
    "model.bbox_head.feat_channels": WIDTH,
    "model.bbox_head.stacked_convs": 1,
}
ATTENTION = {"embed_dims": WIDTH, "num_heads": 4}
FEED = {"embed_dims": WIDTH, "feedforward_channels": 32}


def widths(part, attentions):
    """Options that make the layers of a transformer narrow."""
    options = {f"{part}.layer_cfg.{name}.{k}": v for name in attentions for k, v in ATTENTION.items()}
    return options | {f"{part}.layer_cfg.ffn_cfg.{k}": v for k, v in FEED.items()}


def mask2former(head):
    decoder, pixels = f"{head}.transformer_decoder", f"{head}.pixel_decoder"
    return {
        **widths(decoder, ("self_attn_cfg", "cross_attn_cfg")),
        **widths(f"{pixels}.encoder", ("self_attn_cfg",)),
        f"{head}.feat_channels": WIDTH,
        f"{head}.out_channels": WIDTH,
        f"{head}.num_queries": 8,
        f"{head}.positional_encoding.num_feats": WIDTH // 2,
        f"{pixels}.positional_encoding.num_feats": WIDTH // 2,
        f"{pixels}.encoder.num_layers": 1,
        f"{decoder}.num_layers": 3,
    }


DETECTORS = {
    "rtmdet_van_b1_300e_coco": {
        "model.neck.out_channels": WIDTH,
        "model.neck.num_csp_blocks": 1,
        "model.bbox_head.in_channels": WIDTH,
        "model.bbox_head.feat_channels": WIDTH,
        "model.test_cfg.score_thr": 0.0,
        "custom_hooks": [],
    },
    "dino_van_b1_12e_coco": {
        **widths("model.encoder", ("self_attn_cfg",)),
        **widths("model.decoder", ("self_attn_cfg", "cross_attn_cfg")),
        "model.encoder.num_layers": 1,
        "model.decoder.num_layers": 2,
        "model.neck.out_channels": WIDTH,
        "model.positional_encoding.num_feats": WIDTH // 2,
        "model.num_queries": 20,
        "model.bbox_head.embed_dims": WIDTH,
        "model.test_cfg.max_per_img": 20,
    },
    "mask2former_van_b1_lsj_50e_coco": {
        **mask2former("model.panoptic_head"),
        "model.data_preprocessor.batch_augments": None,
        "model.train_cfg.num_points": 128,
        "model.test_cfg.max_per_image": 5,
    },
}
SEGMENTERS = {
    "mask2former_van_b1_512x512_160k_ade20k": mask2former("model.decode_head")
    | {"model.decode_head.train_cfg.num_points": 128},
    "segformer_van_b1_512x512_160k_ade20k": {"model.decode_head.channels": WIDTH},
    "deeplabv3plus_van_b1_512x512_160k_ade20k": {
        "model.decode_head.channels": WIDTH,
        "model.decode_head.c1_channels": 16,
        "model.auxiliary_head.channels": 16,
    },
}

"""Trains one head of each kind for ten steps, alone or as one process of several; as a program, as one of several.

python tests/dense_processes.py FOLDER   (FOLDER has the data and gets the losses)
"""

import json
import sys
from pathlib import Path

import dense_data
import slim_heads
from conftest import ROOT
from helpers import Losses
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from paper_run import UNTESTED

from backbones import VAN
from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_training
from ziggurat.engine.seeding import seed_all

STEPS, PROCESSES = 10, 2
GFL_SCORES = dict(type="Normal", layer="Conv2d", std=0.01)
GROUPS = dict(type="GN", num_groups=8)
SLIM_SEGMENTER = {"model.decode_head.channels": 16}
# Each leaf with its options. A sum that all processes share, ATSS's and GFL's numbers of objects, is that of the whole
# batch. Every other head divides by the numbers of its own images.
CASES = {
    "detection/configs/van/retinanet_van_b1_fpn_1x_coco.py": slim_heads.DENSE,
    "detection/configs/van/atss_van_b1_fpn_3x_coco.py": slim_heads.DENSE,
    # GFL divides by a sum of scores, or by 1 where the sum is less. Scores of 0.5 at the start keep the sum above.
    "detection/configs/van/gfl_van_b1_fpn_3x_coco.py": slim_heads.DENSE | {"model.bbox_head.init_cfg": GFL_SCORES},
    "detection/configs/van/mask_rcnn_van_b1_fpn_1x_coco.py": dense_data.SLIM_ROI
    | {"model.roi_head.bbox_head.in_channels": 32, "model.roi_head.bbox_head.fc_out_channels": 64},
    "detection/configs/van/dino_van_b1_12e_coco.py": slim_heads.DETECTORS["dino_van_b1_12e_coco"],
    "detection/configs/van/mask2former_van_b1_lsj_50e_coco.py": slim_heads.DETECTORS["mask2former_van_b1_lsj_50e_coco"],
    "segmentation/configs/van/semantic_fpn_van_b1_512x512_40k_ade20k.py": SLIM_SEGMENTER,
    "segmentation/configs/van/upernet_van_b1_512x512_160k_ade20k.py": SLIM_SEGMENTER
    | {
        "model.auxiliary_head.channels": 16,
        "model.decode_head.norm_cfg": GROUPS | {"_delete_": True},
        "model.auxiliary_head.norm_cfg": GROUPS | {"_delete_": True},
    },
}
SHARED = ("atss", "gfl")  # heads that divide by a sum over all processes


@HOOKS.register_module(force=True)
class SeedByBatch(Hook):
    """Lets the random numbers of a step depend on the batch, whichever process has the batch."""

    priority = "VERY_LOW"

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        seed_all(runner.iter * get_world_size() + get_rank())


def train(leaf, folder, launcher="none"):
    """The loss of every batch of this process.

    Two processes have a batch of one image each. One process has the same images in one batch of two for heads that
    divide by a shared sum. For others it has them in two batches, whose gradients are accumulated.
    """
    alone = launcher == "none"
    whole = alone and Path(leaf).name.startswith(SHARED)
    seg = leaf.startswith("segmentation")
    batches = STEPS * (PROCESSES if alone and not whole else 1)
    options = {
        "data_root": str(folder / ("ade" if seg else "coco")),
        **(dense_data.small_mask_pipelines() if seg else dense_data.small_coco_pipelines(with_mask="mask" in leaf)),
        **dense_data.SMALL_LOADERS,
        **({"classes": ["box", "disc", "background"]} if seg else {}),
        "randomness.seed": 0,
        "train_dataloader.batch_size": PROCESSES if whole else 1,
        "train_dataloader.sampler": dict(type="InfiniteSampler", shuffle=True),
        **UNTESTED,
        "model.backbone.arch": "van_b0",
        "model.backbone.pretrained": None,
        "model.backbone.norm_eval": True,
        "model.backbone.drop_path_rate": 0.0 if whole or Path(leaf).name.startswith(SHARED) else 0.3,
        "optim_wrapper.accumulative_counts": batches // STEPS,
        "param_scheduler": [],
        "auto_scale_lr.enable": False,
        "train_cfg": dict(_delete_=True, type="IterBasedTrainLoop", max_iters=batches),
        "default_hooks.checkpoint": dict(interval=-1, save_last=False),
        "log_processor.by_epoch": False,
        "custom_hooks": [dict(type="SeedByBatch"), dict(type="Losses")],
        **CASES[leaf],
    }
    work_dir = folder / Path(leaf).stem / launcher
    runner = build_training(load_config(ROOT / leaf, options), work_dir, launcher=launcher, device="cpu")
    runner.train()
    return next(hook.values for hook in runner.hooks if isinstance(hook, Losses))


def main():
    VAN.ARCHS["van_b0"] = VAN.ARCHS["van_b0"]._replace(depths=(1, 1, 1, 1))
    folder = Path(sys.argv[1])
    losses = {leaf: train(leaf, folder, "pytorch") for leaf in CASES}
    (folder / f"losses_{get_rank()}.json").write_text(json.dumps(losses))


if __name__ == "__main__":
    main()

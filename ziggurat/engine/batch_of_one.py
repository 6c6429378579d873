"""Batches of one image, on which a norm over pooled maps cannot train: one value has no variance."""

from typing import Any

import torch
from mmengine.dist import get_world_size
from torch import nn

from backbones.errors import UserError
from ziggurat.engine.tasks import task_for

SIDE = 256  # pixels; large enough for maps of several pixels at every stride
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm)
ONE_VALUE = "Expected more than 1 value per channel"  # of PyTorch's error


def check_batches_of_one(cfg: Any, loader: Any) -> None:
    """Raises UserError if a batch has one image, and a norm of the model cannot train on it.

    The model's test pass runs on the meta device, in training mode. Only heads that this pass leaves out, such as
    auxiliary ones, are not tried.

    Args:
        cfg: the completed config.
        loader: the ``DataLoader`` of the training set.
    """
    batch = smallest_batch(loader)
    name = first_that_fails(cfg) if batch == 1 else None
    if name is None:
        return
    if loader.batch_sampler.batch_size == 1:
        what = "train_dataloader.batch_size is 1"
        way = "2 or more, with optim_wrapper.accumulative_counts if memory is short"
    else:
        what, way = "the last batch of an epoch has 1 image", "train_dataloader.drop_last=True, or another batch_size"
    groups = "norm_cfg={'type': 'GN', 'num_groups': 8}"
    raise UserError(f"{what}, and the norm {name} needs more than one value; allowed: {way}; or {groups}")


def smallest_batch(loader: Any) -> int | None:
    """The number of images in the smallest batch; None if the loader does not tell."""
    batches = loader.batch_sampler
    size, sampler = getattr(batches, "batch_size", None), getattr(batches, "sampler", None)
    if size is None or getattr(batches, "drop_last", True) or not hasattr(sampler, "num_samples"):
        return size
    return sampler.num_samples % size or size


def first_that_fails(cfg: Any) -> str | None:
    """The name of the first norm that a batch of one stops; None if there is none, or the model cannot tell."""
    task = task_for(cfg)
    with torch.device("meta"), task.scoped(cfg):
        model = task.build_model(cfg).train()
        for parent in list(model.modules()):
            for name, module in list(parent.named_children()):
                # Several processes have several images for these.
                if isinstance(module, nn.SyncBatchNorm):
                    setattr(
                        parent, name, nn.Identity() if get_world_size() > 1 else nn.BatchNorm2d(module.num_features)
                    )
        failed: list[str] = []
        norms = {module: name for name, module in model.named_modules() if isinstance(module, NORMS)}
        for module in norms:
            module.register_forward_pre_hook(lambda module, _: failed.append(norms[module]))
        try:
            with torch.no_grad():
                task.counted_pass(model, torch.empty(1, 3, SIDE, SIDE))
        except ValueError as error:
            return failed[-1] if failed and ONE_VALUE in str(error) else None
        except Exception:  # models of others may refuse such a pass for reasons of their own
            return None
    return None

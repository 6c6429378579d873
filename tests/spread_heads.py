"""Small detectors whose scores and boxes are spread as after a training, so that suppression has work."""

import copy

import small_heads
import torch
from mmengine.dataset import pseudo_collate

from ziggurat.engine.tasks import task_for

# The last layers of heads, and the standard deviation that their outputs get.
LAST = {
    **dict.fromkeys(("retina_cls", "atss_cls", "gfl_cls", "rtm_cls", "rpn_cls", "fc_cls", "conv_logits"), 1.5),
    **dict.fromkeys(("retina_reg", "atss_reg", "rpn_reg"), 0.3),
    **dict.fromkeys(("gfl_reg", "rtm_reg", "fc_reg"), 1.0),
}
COUNT = 50  # objects at most
NAMES = ("retinanet", "atss", "gfl", "rtmdet", "mask_rcnn", "cascade_mask_rcnn", "dino")


def detector(name, image, side=256, **options):
    """A config and its model, spread on ``image``. Options are those of the test_cfg that chooses the objects."""
    kind, slim = small_heads.DETECTORS[name]
    chooses = "model.test_cfg.rcnn" if "rcnn" in name else "model.test_cfg"
    wanted = {"max_per_img": COUNT} | ({} if name == "dino" else {"score_thr": 0.3}) | options
    slim = slim | {f"{chooses}.{key}": value for key, value in wanted.items()}
    if name == "dino":
        slim = slim | {"model.num_queries": COUNT + 10}
    cfg = small_heads.config_of("detection", kind, slim, side)
    model = small_heads.built(cfg)
    hooks = []
    for path, module in model.named_modules():
        named = [name for name in LAST if name in path.split(".")]
        if named and hasattr(module, "weight"):
            hooks.append(module.register_forward_hook(Scale(LAST[named[0]])))
    predicted(cfg, model, image)
    for hook in hooks:
        hook.remove()
    return cfg, model


class Scale:
    """A hook that scales a layer at its first pass, so that its outputs have this standard deviation."""

    def __init__(self, deviation):
        self.deviation, self.done = deviation, False

    def __call__(self, module, args, output):
        if self.done:
            return None
        self.done = True
        module.weight.data *= self.deviation / output.std().clamp_min(1e-6)
        if module.bias is not None:
            module.bias.data.zero_()
        return module.forward(*args)


def prepared_data(cfg, model, image):
    """The network's input and the sample of an image, by the config's test preprocessing."""
    task = task_for(cfg)
    with task.scoped(cfg):
        return model.data_preprocessor(pseudo_collate([task.preprocessing(cfg)(image)]))


@torch.no_grad()
def predicted(cfg, model, image):
    """mmdet's own objects for an image."""
    with task_for(cfg).scoped(cfg):
        data = prepared_data(cfg, model, image)
        return model.predict(data["inputs"], copy.deepcopy(data["data_samples"]))[0].pred_instances

"""The examples of docs/examples inherit a ResNet's config from mmdet or mmseg, and train with one of our networks."""

import re
from pathlib import Path

import mmdet
import mmseg
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from backbones import VAN
from backbones.weights import statistics

EXAMPLES = Path(__file__).parent.parent / "docs/examples"


def build(cfg, registry, scope):
    """The model of a config without its weights; its four maps and their statistics are those that the config says."""
    assert cfg.model.backbone.pretrained == "van_b2.in1k"
    cfg.model.backbone.pretrained = None
    init_default_scope(scope)
    model = registry.build(cfg.model)
    assert isinstance(model.backbone, VAN)
    mean, std, _ = statistics("van_b2", "van_b2.in1k")  # in 0..1
    for ours, theirs in ((mean, model.data_preprocessor.mean), (std, model.data_preprocessor.std)):
        torch.testing.assert_close(theirs.flatten(), 255 * torch.tensor(ours))
    return model.train()


def check_trains(model, losses):
    total, _ = model.parse_losses(losses)
    total.backward()
    without = [name for name, p in model.backbone.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []


def test_the_readme_shows_the_example():
    blocks = re.findall(r"```python\n(.*?)```", (EXAMPLES.parent.parent / "README.md").read_text(), re.DOTALL)
    shown, example = {}, {}
    exec(next(block for block in blocks if "_base_" in block), shown)
    exec((EXAMPLES / "mask_rcnn_of_mmdet.py").read_text(), example)
    for name in ("_base_", "custom_imports", "model"):
        assert shown[name] == example[name]


def test_mask_rcnn_of_mmdet():
    from mmdet.testing import demo_mm_inputs

    model = build(Config.fromfile(EXAMPLES / "mask_rcnn_of_mmdet.py"), mmdet.registry.MODELS, "mmdet")
    data = demo_mm_inputs(2, [[3, 96, 96]] * 2, num_items=[2, 1], with_mask=True)
    check_trains(model, model(**model.data_preprocessor(data, True), mode="loss"))


def test_upernet_of_mmseg(tmp_path):
    configs = Path(mmseg.__file__).parent / ".mim/configs"
    if not configs.is_dir():
        pytest.skip("this mmsegmentation came without its configs")
    (tmp_path / "configs").symlink_to(configs)
    (tmp_path / "example.py").write_text((EXAMPLES / "upernet_of_mmseg.py").read_text())
    cfg = Config.fromfile(tmp_path / "example.py")
    cfg.norm_cfg = cfg.model.decode_head.norm_cfg = cfg.model.auxiliary_head.norm_cfg = dict(type="BN")  # one process
    model = build(cfg, mmseg.registry.MODELS, "mmseg")
    labels = torch.randint(0, 150, (1, 96, 96))
    samples = [SegDataSample(gt_sem_seg=PixelData(data=labels), metainfo=dict(img_shape=(96, 96))) for _ in range(2)]
    data = dict(inputs=[torch.randint(0, 256, (3, 96, 96), dtype=torch.uint8) for _ in range(2)], data_samples=samples)
    check_trains(model, model(**model.data_preprocessor(data, True), mode="loss"))

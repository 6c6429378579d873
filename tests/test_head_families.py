"""Every head learns on every family: loss and gradients of one step, on the leaf that `make demo-full` trains."""

import importlib

import pytest
from dense_leaves import ROOT
from full_heads import CLASSIFIER
from full_plan import leaf_of, options_of, plan
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope

from tools.make_demo_data import make_demo_data
from ziggurat.engine.config import load_config
from ziggurat.engine.tasks import task_of

CELLS = [cell for cell in plan([], []) if cell.head != CLASSIFIER]
# RTMDet's coarsest maps have norms of their own, and no digit is large enough for their boxes.
WITHOUT_GRADIENT = {"rtmdet": ("bbox_head.reg_convs.2.", "bbox_head.rtm_reg.2.")}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "demo"
    return make_demo_data(out, num_train=2, num_val=1, digits_train=1, digits_val=1)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_a_step_reaches_every_parameter(cell, data, cut_depths, monkeypatch):
    monkeypatch.chdir(ROOT)
    cut_depths(cell.arch, (1, 1, 1, 1))
    options = options_of(cell, data, None, iterations=1) | {"model.backbone.pretrained": None}
    cfg = load_config(leaf_of(cell), options)
    library = {"detection": "mmdet", "segmentation": "mmseg"}[task_of(cfg)]
    init_default_scope(library)
    registry = importlib.import_module(f"{library}.registry")
    model = registry.MODELS.build(cfg.model).train()
    model.init_weights()
    dataset = registry.DATASETS.build(cfg.train_dataloader.dataset)
    batch = model.data_preprocessor(pseudo_collate([dataset[0], dataset[1]]), training=True)
    loss, _ = model.parse_losses(model(**batch, mode="loss"))
    loss.backward()
    assert loss.isfinite()
    known = WITHOUT_GRADIENT.get(cell.head, ())
    without = [name for name, part in model.named_parameters() if part.grad is None and not name.startswith(known)]
    assert without == []
    assert all(part.grad.isfinite().all() for part in model.parameters() if part.grad is not None)

"""Both segmenters of the configs train on a user's own masks.

Every weight moves, the loss falls, and IoUMetric gives figures. Optimiser and schedule are the authors'.
"""

import dense_data
import numpy as np
import pytest
import torch

from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_testing, build_training
from ziggurat.engine.tasks import task_for

HEADS = {
    "upernet_van_b0_512x512_160k_ade20k": {"model.decode_head.channels": 32, "model.auxiliary_head.channels": 16},
    "semantic_fpn_van_b0_512x512_40k_ade20k": {
        "model.neck.out_channels": 32,
        "model.decode_head.in_channels": [32] * 4,
        "model.decode_head.channels": 32,
    },
}


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    return dense_data.write_masks(tmp_path_factory.mktemp("masks") / "data")


@pytest.mark.parametrize("name", HEADS)
def test_training(name, masks, tmp_path):
    options = {
        "data_root": str(masks),
        "classes": ["box", "disc", "background"],
        "model.backbone.pretrained": None,
        "model.backbone.drop_path_rate": 0.0,
        "optim_wrapper.optimizer.lr": 1e-3,
        "train_cfg.max_iters": 24,
        "train_cfg.val_interval": 24,
        "param_scheduler": [],
        "default_hooks.checkpoint.interval": -1,
        "default_hooks.logger.interval": 1,
        "log_processor.window_size": 1,
        **dense_data.SMALL_LOADERS,
        **dense_data.small_mask_pipelines(),
        **HEADS[name],
    }
    runner = build_training(load_config(f"segmentation/configs/van/{name}.py", options), tmp_path, device="cpu")
    before = {key: value.clone() for key, value in runner.model.state_dict().items()}
    runner.train()

    assert [key for key, value in runner.model.named_parameters() if torch.equal(value, before[key])] == []
    losses = np.asarray(runner.message_hub.get_scalar("train/loss").data[0])
    assert losses[-4:].mean() < 0.8 * losses[:2].mean()
    metrics = {key: scalar.current() for key, scalar in runner.message_hub.log_scalars.items()}
    assert 20 < metrics["val/mIoU"] <= 100  # percent; chance is far below


def test_tta_answers(masks, tmp_path):
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    from ziggurat.engine.tta import use_tta

    name = "semantic_fpn_van_b0_512x512_40k_ade20k"
    scales = [dict(type="Resize", scale=(side, side), keep_ratio=True) for side in (48, 64)]
    options = {"data_root": str(masks), "classes": 3}
    cfg = load_config(f"segmentation/configs/van/{name}.py", options | dense_data.SMALL_LOADERS | HEADS[name])
    init_default_scope("mmseg")
    torch.save({"state_dict": MODELS.build(cfg.model).state_dict()}, tmp_path / "random.pth")
    cfg.tta_pipeline[1].transforms[0] = scales
    use_tta(cfg)
    cfg.test_dataloader.num_workers, cfg.test_dataloader.persistent_workers = 0, False
    runner = build_testing(cfg, tmp_path / "random.pth", tmp_path / "run", device="cpu")
    assert 0 <= runner.test()["mIoU"] <= 100


def test_upernet_decays_and_warms_up_as_the_authors():
    """lr(t) = 6e-5 (1 - t / 160000) (warm-up to t = 1500); norms are not decayed, everything else by 0.01."""
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import PARAM_SCHEDULERS, init_default_scope
    from mmseg.registry import MODELS

    import segmentation  # noqa: F401

    cfg = load_config("segmentation/configs/van/upernet_van_b0_512x512_160k_ade20k.py")
    init_default_scope("mmseg")
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    names = {id(param): name for name, param in model.named_parameters()}
    for group in wrapper.optimizer.param_groups:
        for param in group["params"]:
            assert group["weight_decay"] == (0.0 if "norm" in names[id(param)] else 0.01), names[id(param)]
    norms = [m for m in model.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d | torch.nn.LayerNorm)]
    assert norms and all("norm" in names[id(norm.weight)] for norm in norms)

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=cfg.optim_wrapper.optimizer.lr)
    schedulers = [PARAM_SCHEDULERS.build(dict(s, optimizer=optimizer)) for s in cfg.param_scheduler]
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(3000):
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    for t in (0, 1, 700, 1499, 1500, 3000):
        warm = min(1.0, 1e-6 + (1 - 1e-6) * t / 1500)
        assert rates[t] == pytest.approx(6e-5 * (1 - t / 160000) * warm, rel=2e-3)


def test_a_head_of_as_many_other_classes_gets_a_note(masks, tmp_path, capsys):
    """In a start from a checkpoint and in a test. The same classes get none."""
    name = "semantic_fpn_van_b0_512x512_40k_ade20k"
    options = {"data_root": str(masks), "classes": ["box", "disc", "background"], "model.backbone.pretrained": None}
    options |= dense_data.SMALL_LOADERS | dense_data.small_mask_pipelines() | HEADS[name]
    path = f"segmentation/configs/van/{name}.py"
    state = task_for(load_config(path, options)).build_model(load_config(path, options)).state_dict()
    for file, classes in (("same", ["box", "disc", "background"]), ("other", ["box", "ring", "background"])):
        torch.save({"state_dict": state, "meta": {"dataset_meta": {"classes": classes}}}, tmp_path / f"{file}.pth")

    def said(file):
        weights = str(tmp_path / f"{file}.pth")
        runner = build_training(load_config(path, options | {"load_from": weights}), tmp_path / file, device="cpu")
        runner.load_or_resume()
        runner.folder.release()
        runner = build_testing(load_config(path, options), weights, tmp_path / "test", device="cpu")
        _ = runner.test_loop
        runner.load_or_resume()
        return capsys.readouterr().err

    assert "of other classes" not in said("same")
    note = "other.pth is of other classes: its class 1 is 'ring', and the data's is 'disc'; its head is kept"
    assert said("other").count(note) == 2

"""A run is safe to start, to stop and to continue.

Nothing in a work dir is lost unasked. Checkpoints are whole and plain, and reading one runs no code. A resumed training
equals the uninterrupted one.
"""

import errno
import fcntl
import importlib
import os
import pickle
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from backbones import UserError
from backbones.weights import files, read_own_meta
from backbones.weights.own import from_json, to_json
from ziggurat.engine import Predictor, hooks
from ziggurat.engine import runner as engine_runner
from ziggurat.engine.checkpoints import load_state, to_plain_types
from ziggurat.engine.config import load_config
from ziggurat.engine.normalisation import follow_statistics, statistics_of
from ziggurat.engine.optim import use_autocast
from ziggurat.engine.run import build_testing, build_training
from ziggurat.engine.runner import SafeRunner
from ziggurat.engine.work_dir import WorkDir
from ziggurat.engine.wrappers import wrap, wrapper_class

DEMO = Path(__file__).resolve().parent.parent / "classification/configs/demo/van_b0_digits.py"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    pixels = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(pixels.integers(0, 256, (32, 32, 3), np.uint8)).save(root / split / name / f"{i}.png")
    return root


def tiny(images, iters=2, **options):
    """Batches of 2 in fixed order, without augmentation; the schedule always spans 4 iterations."""
    options = {
        "data_root": str(images),
        "train_cfg": dict(_delete_=True, type="IterBasedTrainLoop", max_iters=iters, val_interval=100),
        "train_dataloader.batch_size": 2,
        "train_dataloader.sampler": dict(type="InfiniteSampler", shuffle=False),
        "train_dataloader.dataset.transform": dict(_delete_=True, is_training=False, input_size=32, crop_pct=1.0),
        "param_scheduler": [dict(type="CosineAnnealingLR", T_max=4, begin=0, end=4, eta_min=1e-6, by_epoch=False)],
        "default_hooks.checkpoint": dict(type="CheckpointHook", by_epoch=False, interval=2, max_keep_ckpts=1),
        **options,
    }
    return load_config(DEMO, options)


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp("trained")
    build_training(tiny(images), work_dir, device="cpu").train()
    return work_dir


def test_resuming_is_the_uninterrupted_run(images, tmp_path):
    cfg = tiny(images, iters=4, **{"default_hooks.checkpoint.max_keep_ckpts": 2})
    straight = build_training(cfg, tmp_path / "straight", device="cpu")
    straight.train()
    resumed = build_training(cfg, tmp_path / "resumed", resume=tmp_path / "straight/iter_2.pth", device="cpu")
    resumed.train()
    for name, value in straight.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], value, rtol=0, atol=0, msg=name)
    ours, theirs = straight.optim_wrapper.state_dict(), resumed.optim_wrapper.state_dict()
    assert [g["lr"] for g in ours["param_groups"]] == [g["lr"] for g in theirs["param_groups"]]
    for index, state in ours["state"].items():
        torch.testing.assert_close(theirs["state"][index]["exp_avg"], state["exp_avg"], rtol=0, atol=0)


def test_resuming_what_is_finished_says_so(images, trained, tmp_path, capsys):
    build_training(tiny(images), tmp_path, resume=trained / "iter_2.pth", device="cpu").train()
    assert "nothing left to train after 2 iterations; log: " in capsys.readouterr().out


def test_a_checkpoint_is_plain(trained):
    content = torch.load(trained / "iter_2.pth", weights_only=True)
    assert {"state_dict", "optimizer", "param_schedulers", "message_hub", "meta"} <= set(content)
    assert content["meta"]["dataset_meta"] == {"classes": ("cat", "dog")}
    assert not list(trained.glob(".*.tmp"))


def test_a_checkpoint_says_what_it_is(trained, images):
    own = read_own_meta(torch.load(trained / "iter_2.pth", weights_only=True))
    assert (own["format"], own["task"], own["classes"]) == (1, "classification", ["cat", "dog"])
    assert own["backbone"]["arch"] == "van_b0" and own["backbone"]["norm_eps"] == 1e-6
    configured = tiny(images).model.data_preprocessor
    assert (own["mean"], own["std"]) == (list(configured.mean), list(configured.std))
    assert own["config"]["data_root"] == str(images) and own["config"]["model"]["backbone"]["norm_eps"] == 1e-6
    assert from_json(to_json(own)) == own


def test_a_checkpoint_of_ours_predicts_without_a_config(trained, images):
    predictor = Predictor(trained / "iter_2.pth")
    found = predictor(images / "val/cat/0.png")
    assert list(predictor.names) == ["cat", "dog"] and sum(found.scores) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("preprocessor", ["DetDataPreprocessor", "SegDataPreProcessor"])
@pytest.mark.parametrize("bgr_to_rgb", [True, False])
def test_statistics_of_mm_are_told_as_rgb_from_0_to_1(preprocessor, bgr_to_rgb):
    package = importlib.import_module({"D": "detection", "S": "segmentation"}[preprocessor[0]])
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    config = dict(mean=mean, std=std, bgr_to_rgb=bgr_to_rgb)
    model = torch.nn.Module()
    init_default_scope(package.TASK.scope)
    model.data_preprocessor = MODELS.build(dict(config, type=preprocessor))
    found = statistics_of(model, Config(dict(model=dict(data_preprocessor=config))))
    expected = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]
    assert list(found) == [numbers if bgr_to_rgb else numbers[::-1] for numbers in expected]


@pytest.mark.parametrize("way", ["test", "resume"])
def test_the_checkpoint_decides_what_its_weights_fix(images, tmp_path, way):
    """Whatever the config says by then: it may have been completed for other weights."""
    eps = "model.backbone.norm_eps"
    first = build_training(tiny(images, **{eps: 1e-3}), tmp_path / "first", device="cpu")
    first.train()
    path = tmp_path / "first/iter_2.pth"
    for options in ({}, {eps: 1e-6}):
        if way == "test":
            again = build_testing(tiny(images, **options), path, tmp_path / "again", device="cpu")
            again.test()
        else:
            again = build_training(
                tiny(images, **options), tmp_path / "again", resume=path, overwrite=False, device="cpu"
            )
            again.train()
        x = torch.rand(2, 3, 32, 32)
        assert torch.equal(first.model.eval()(x), again.model.eval()(x))
        assert again.cfg.model.backbone.norm_eps == 1e-3


@pytest.mark.parametrize("way", ["pretrained", "resume", "load_from", "test"])
def test_a_file_is_read_once(images, trained, tmp_path, monkeypatch, way):
    path, read, counts = trained / "iter_2.pth", files.read_file, Counter()

    def counted(path):
        counts[path] += 1
        return read(path)

    monkeypatch.setattr(files, "read_file", counted)
    if way == "test":
        build_testing(tiny(images), path, tmp_path, device="cpu").test()
    elif way == "resume":
        build_training(tiny(images), tmp_path, resume=path, device="cpu").train()
    else:
        key = {"pretrained": "model.backbone.pretrained", "load_from": "load_from"}[way]
        build_training(tiny(images, **{key: str(path)}), tmp_path, device="cpu").train()
    assert counts == {path: 1}


def test_plain_reaches_every_depth():
    nested = {"a": [np.float32(0.5), (np.int64(3), np.arange(2))], "b": torch.ones(1, requires_grad=True)}
    result = to_plain_types(nested)
    assert result["a"] == [0.5, (3, [0, 1])]
    assert type(result["a"][0]) is float and not result["b"].requires_grad


@pytest.mark.parametrize("preprocessor", ["DetDataPreprocessor", "SegDataPreProcessor"])
@pytest.mark.parametrize("bgr_to_rgb", [True, False])
def test_a_model_normalises_as_the_run_that_wrote_its_checkpoint(preprocessor, bgr_to_rgb, capsys):
    package = importlib.import_module({"D": "detection", "S": "segmentation"}[preprocessor[0]])
    init_default_scope(package.TASK.scope)
    trained = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=bgr_to_rgb)
    configured = dict(mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True)
    models, cfgs = [], []
    for config in (trained, configured):
        models.append(torch.nn.Module())
        models[-1].data_preprocessor = MODELS.build(dict(config, type=preprocessor))
        cfgs.append(Config(dict(model=dict(data_preprocessor=config))))
    mean, std = statistics_of(models[0], cfgs[0])
    follow_statistics(models[1], cfgs[1], None, "others.pth")  # says nothing of itself
    assert statistics_of(models[1], cfgs[1]) == ([0.5] * 3, [0.5] * 3)
    assert "note:" not in capsys.readouterr().err
    follow_statistics(models[1], cfgs[1], dict(mean=mean, std=std), "ours.pth")
    assert statistics_of(models[1], cfgs[1]) == (mean, std)
    given = models[0].data_preprocessor.mean
    assert torch.equal(models[1].data_preprocessor.mean, given if bgr_to_rgb else given.flip(0))
    assert "as in the run that wrote ours.pth" in capsys.readouterr().err
    follow_statistics(models[1], cfgs[1], dict(mean=mean, std=std), "ours.pth")
    assert "note:" not in capsys.readouterr().err  # they agree now


@pytest.mark.parametrize("way", ["test", "predict"])
def test_a_config_with_other_statistics_follows_the_checkpoint(images, trained, tmp_path, capsys, way):
    options = {"model.data_preprocessor.mean": [0.1, 0.2, 0.3], "model.data_preprocessor.std": [0.2, 0.3, 0.4]}
    cfg = tiny(images, **options)
    if way == "test":
        runner = build_testing(cfg, trained / "iter_2.pth", tmp_path, device="cpu")
        runner.load_or_resume()
        model = runner.model
    else:
        model = Predictor(cfg, trained / "iter_2.pth").model
    assert statistics_of(model, cfg) == statistics_of(Predictor(trained / "iter_2.pth").model, cfg)
    assert "as in the run that wrote" in capsys.readouterr().err


def test_building_a_run_leaves_the_callers_config_alone(images, tmp_path):
    cfg = tiny(images)
    before = cfg.to_dict()
    build_training(cfg, tmp_path, amp=True, device="cpu")
    assert cfg.to_dict() == before


def test_too_few_images_for_a_batch(images, tmp_path, capsys):
    cfg = tiny(images, **{"train_dataloader.batch_size": 9, "train_dataloader.sampler.type": "DefaultSampler"})
    runner = build_training(cfg, tmp_path, device="cpu")
    said = "train_dataloader.batch_size is 9, and there are 8 training images; a batch has 8"
    assert said in capsys.readouterr().err and len(runner.train_dataloader) == 1
    assert runner.cfg.train_dataloader.batch_size == runner.train_dataloader.batch_sampler.batch_size == 8


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"model.backbone.archh": "van_b0"}, "model.backbone: VAN takes no archh='van_b0'"),
        ({"optim_wrapper.optimizer.lrr": 1}, "van_b0_digits.py: unknown argument of AdamW 'lrr'; nearest: lr "),
        ({"optim_wrapper.optimizer.lr": "abc"}, "lr is 'abc'; allowed: numbers from 0 up"),
        ({"train_dataloader.batch_size": "abc"}, "batch_size is 'abc'; allowed: integers from 1 up"),
        ({"model.backbone.type": "VAM"}, "van_b0_digits.py: VAM is not in the .*; allowed: Backbone, VAN, "),
        ({"model.backbone.type": "mmpretrain.VAN"}, 'mmpretrain.VAN is not in the .*; use type="VAN" or'),
        ({"model.backbone.type": "mmcls.PyramidVig"}, 'mmcls.PyramidVig is not in the .*; use type="PViG" or'),
        ({"model.backbone.out_indices": (0, 7)}, "out_indices is"),
    ],
)
def test_a_wrong_name_in_a_config_is_one_line(images, tmp_path, option, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "mmpretrain", None)  # which may be installed
    with pytest.raises(UserError, match=message):
        build_training(tiny(images, **option), tmp_path, device="cpu")


def test_another_librarys_name_of_a_network_gets_a_hint_where_nothing_is_left_to_fill_in(images, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mmpretrain", None)  # which may be installed
    cfg = tiny(images)
    cfg.model.backbone.type = "mmpretrain.PyramidVig"
    with pytest.raises(UserError, match=r'mmpretrain.PyramidVig is not in the .*; use type="PViG" or type="Backbone"'):
        build_training(cfg, tmp_path, device="cpu")


def test_an_iteration_based_scheduler_made_from_epochs_is_told_about_too(images, tmp_path):
    schedule = dict(type="CosineAnnealingLR", T_max=4, by_epoch=True, convert_to_iter_based=True, eta_minn=0.0)
    cfg = tiny(images, param_scheduler=[schedule])
    with pytest.raises(UserError, match=r"CosineAnnealingLR.* 'eta_minn'"):
        build_training(cfg, tmp_path, device="cpu")


def test_an_argument_that_saving_does_not_take_is_named_before_training(images, tmp_path):
    cfg = tiny(images, **{"default_hooks.checkpoint.max_kep_ckpts": 1})
    with pytest.raises(UserError, match="unknown argument of CheckpointHook 'max_kep_ckpts'; nearest: max_keep_ckpts"):
        build_training(cfg, tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("val_evaluator", "lacks val_evaluator; val needs val_dataloader, val_cfg, val_evaluator"),
        ("optim_wrapper", "lacks optim_wrapper; train needs train_dataloader, train_cfg, optim_wrapper"),
    ],
)
def test_what_a_config_lacks_is_named(images, tmp_path, part, message):
    cfg = tiny(images)
    cfg[part] = None
    with pytest.raises(UserError, match=message):
        build_training(cfg, tmp_path, device="cpu")


def test_the_runner_works_without_the_checks_of_a_run(images, tmp_path):
    """As mmengine's does: from a config alone, and nothing of one runner reaches the next."""
    cfg = tiny(images)
    cfg.work_dir = str(tmp_path)
    runner = SafeRunner.from_cfg(cfg)
    runner.train()
    state = runner.model.state_dict()
    name = next(iter(state))
    assert state[name].device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    runner.save_checkpoint(str(tmp_path), "own.pth")
    assert torch.equal(torch.load(tmp_path / "own.pth", weights_only=True)["state_dict"][name], state[name].cpu())


def test_a_used_work_dir_is_refused_and_kept(images, trained):
    with pytest.raises(UserError, match="holds a run; add --resume or --overwrite"):
        build_training(tiny(images), trained, device="cpu")
    assert (trained / "iter_2.pth").is_file()


def test_overwrite_removes_the_old_run_only_once_the_new_one_has_saved(images, trained, tmp_path):
    (tmp_path / "iter_9.pth").write_bytes(b"old")
    (tmp_path / "last_checkpoint").write_text(str(tmp_path / "iter_9.pth"))
    (tmp_path / "notes.txt").write_text("the user's own")
    with pytest.raises(UserError, match="no data folder"):
        build_training(tiny(tmp_path / "nowhere"), tmp_path, overwrite=True, device="cpu")
    with pytest.raises(UserError, match="unknown argument of AdamW"):
        build_training(tiny(images, **{"optim_wrapper.optimizer.lrr": 1}), tmp_path, overwrite=True, device="cpu")
    assert (tmp_path / "iter_9.pth").read_bytes() == b"old"
    (tmp_path / "cut.pth").write_bytes(next(trained.glob("*.pth")).read_bytes()[:100_000])
    for options, message in (
        ({"model.backbone.pretrained": str(tmp_path / "cut.pth")}, "not a checkpoint, or cut off"),
        ({"model.backbone.in_chans": 4}, "an image of mode RGB; allowed: mode RGBA or CMYK"),
    ):
        with pytest.raises(UserError, match=message):
            build_training(tiny(images, **options), tmp_path, overwrite=True, device="cpu").train()
        assert (tmp_path / "iter_9.pth").read_bytes() == b"old"
    build_training(tiny(images), tmp_path, overwrite=True, device="cpu").train()
    assert not (tmp_path / "iter_9.pth").exists() and not (tmp_path / "cut.pth").exists()
    assert Path((tmp_path / "last_checkpoint").read_text()).is_file()
    assert (tmp_path / "notes.txt").exists() and (tmp_path / DEMO.name).exists()


def test_a_work_dir_in_use_is_refused(images, tmp_path):
    with open(tmp_path / ".lock", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        for options in ({}, {"overwrite": True}):
            with pytest.raises(UserError, match="in use by a running training"):
                build_training(tiny(images), tmp_path, device="cpu", **options)
    failing = tiny(images, **{"optim_wrapper.optimizer.lrr": 1})
    for _ in range(2):  # what failed gave the work dir back
        with pytest.raises(UserError, match="unknown argument of AdamW"):
            build_training(failing, tmp_path, device="cpu")
    first = build_training(tiny(images), tmp_path, device="cpu")
    with pytest.raises(UserError, match="in use by a running training"):
        build_training(tiny(images), tmp_path, device="cpu")
    first.train()
    build_training(tiny(images), tmp_path, resume=True, device="cpu")


def test_what_a_killed_write_left_is_swept_away(images, tmp_path):
    half_written, hidden = tmp_path / ".iter_2.pth.1234.tmp", tmp_path / ".notes"
    half_written.touch(), hidden.touch()
    build_training(tiny(images), tmp_path, device="cpu")
    assert not half_written.exists() and hidden.exists()


def test_a_record_that_a_kill_left_empty_means_the_newest_checkpoint(tmp_path):
    for i, name in enumerate(("iter_10.pth", "iter_9.pth")):
        torch.save({"meta": {}, "optimizer": {}, "message_hub": {}, "state_dict": {}}, tmp_path / name)
        os.utime(tmp_path / name, (i, i))
    (tmp_path / "last_checkpoint").touch()
    assert WorkDir(tmp_path).last_checkpoint() == tmp_path / "iter_9.pth"
    (tmp_path / "last_checkpoint").write_text("/elsewhere/iter_10.pth")
    assert WorkDir(tmp_path).last_checkpoint() == tmp_path / "iter_10.pth"
    (tmp_path / "iter_10.pth").unlink()
    (tmp_path / "iter_9.pth").unlink()
    with pytest.raises(UserError, match=r"the last checkpoint iter_10\.pth is gone$"):
        WorkDir(tmp_path).last_checkpoint()


def test_a_copied_work_dir_goes_on_from_its_own_files(tmp_path, capsys):
    content = {"meta": {}, "optimizer": {}, "message_hub": {}, "state_dict": {}}
    run, copy = tmp_path / "run", tmp_path / "copy"
    run.mkdir()
    for name in ("iter_1.pth", "iter_2.pth"):
        torch.save(content, run / name)
    (run / "last_checkpoint").write_text(str(run / "iter_2.pth"))
    shutil.copytree(run, copy)
    assert WorkDir(copy).last_checkpoint() == copy / "iter_2.pth"
    (copy / "iter_2.pth").write_bytes(b"rubbish")
    assert WorkDir(copy).last_checkpoint() == copy / "iter_1.pth"
    assert "iter_2.pth" in capsys.readouterr().err


def test_a_record_that_is_a_folder_is_refused_at_the_start(images, tmp_path):
    (tmp_path / "last_checkpoint").mkdir()
    with pytest.raises(UserError, match=r"last_checkpoint is no file; allowed: a text file"):
        build_training(tiny(images), tmp_path, device="cpu", overwrite=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resume": True}, "nothing to resume in .*start without --resume"),
        ({"resume": "absent.pth"}, "no such checkpoint file: absent.pth"),
        ({"resume": True, "overwrite": True}, "--resume and --overwrite exclude each other"),
    ],
)
def test_what_cannot_be_resumed(images, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        build_training(tiny(images), tmp_path, device="cpu", **options)


def test_weights_alone_cannot_be_resumed(images, trained, tmp_path):
    content = torch.load(trained / "iter_2.pth", weights_only=True)
    torch.save({"state_dict": content["state_dict"]}, tmp_path / "weights.pth")
    run = build_training(tiny(images), tmp_path / "run", resume=tmp_path / "weights.pth", device="cpu")
    with pytest.raises(UserError, match="holds weights only and cannot be resumed"):
        run.train()


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("way", ["resume", "load_from", "test"])
def test_code_in_a_checkpoint_is_refused(images, tmp_path, way):
    file, trace = tmp_path / "evil.pth", tmp_path / "trace"
    file.write_bytes(pickle.dumps({"state_dict": {}, "meta": Payload(trace)}))
    torch.save({"state_dict": {}, "meta": Payload(trace)}, tmp_path / "zip.pth")
    for path in (file, tmp_path / "zip.pth"):
        work_dir = tmp_path / f"run_{path.stem}"
        with pytest.raises(UserError, match=r"refused|not a checkpoint"):
            if way == "test":
                build_testing(tiny(images), path, work_dir, device="cpu").test()
            elif way == "resume":
                build_training(tiny(images), work_dir, resume=path, device="cpu").train()
            else:
                build_training(tiny(images, load_from=str(path)), work_dir, device="cpu").train()
        assert not trace.exists()


def test_the_text_of_a_config_in_a_checkpoint_is_not_run(images, trained, tmp_path):
    content = torch.load(trained / "iter_2.pth", weights_only=True)
    content["meta"]["config"] = f"open({str(tmp_path / 'trace')!r}, 'w')"
    torch.save(content, tmp_path / "evil.pth")
    build_training(tiny(images), tmp_path / "run", resume=tmp_path / "evil.pth", device="cpu").train()
    assert not (tmp_path / "trace").exists()


def test_a_failed_save_loses_nothing(images, tmp_path, monkeypatch):
    run = build_training(tiny(images, iters=4), tmp_path, device="cpu")
    save, saved = engine_runner.save_safely, []

    def second_fails(content, path):
        if saved:
            raise OSError(errno.ENOSPC, "No space left on device", path)
        saved.append(path)
        save(content, path)

    monkeypatch.setattr(engine_runner, "save_safely", second_fails)
    with pytest.raises(UserError, match=r"\.pth could not be written: No space left on device; earlier .* are kept"):
        run.train()
    assert (tmp_path / "last_checkpoint").read_text() == str(tmp_path / "iter_2.pth")
    torch.load(tmp_path / "iter_2.pth", weights_only=True)


def test_the_best_checkpoint_stays_until_a_better_one_is_saved(images, tmp_path, monkeypatch):
    saving = dict(type="CheckpointHook", by_epoch=False, interval=-1, save_last=False, save_best="top1", rule="less")
    cfg = tiny(images, iters=2, **{"train_cfg.val_interval": 1, "default_hooks.checkpoint": saving})
    run = build_training(cfg, tmp_path, device="cpu")
    save, scores = engine_runner.save_safely, iter([{"top1": 2.0}, {"top1": 1.0}])

    def second_fails(content, path):
        if list(tmp_path.glob("best_*")):
            raise OSError(errno.ENOSPC, "No space left on device", path)
        save(content, path)

    monkeypatch.setattr(engine_runner, "save_safely", second_fails)
    monkeypatch.setattr(Evaluator, "evaluate", lambda self, size: next(scores))
    with pytest.raises(UserError, match=r"\.pth could not be written: No space left on device; earlier .* are kept"):
        run.train()
    assert [path.name for path in tmp_path.glob("best_*")] == ["best_top1_iter_1.pth"]


def test_only_the_newest_and_the_best_are_kept(images, tmp_path):
    options = {
        "train_cfg.val_interval": 2,
        "default_hooks.checkpoint.save_best": "top1",
    }
    cfg = tiny(images, iters=4)
    cfg.merge_from_dict(options)
    build_training(cfg, tmp_path, device="cpu").train()
    names = sorted(path.name for path in tmp_path.glob("*.pth"))
    assert [name for name in names if not name.startswith("best")] == ["iter_4.pth"]
    assert len([name for name in names if name.startswith("best_top1_iter_")]) == 1


def test_test_metrics_and_strictness(images, trained, tmp_path):
    metrics = build_testing(tiny(images), trained / "iter_2.pth", tmp_path, device="cpu").test()
    assert set(metrics) == {"top1"}  # of two classes
    other = tiny(images, **{"model.backbone.arch": "van_b1"})
    misfit = r"does not fit the model: \d+ tensors of another shape \(first backbone\..*: file \(32,\), model \(64,\)"
    with pytest.raises(UserError, match=misfit):
        build_testing(other, trained / "iter_2.pth", tmp_path, device="cpu").test()


def test_load_from_may_bring_another_head_but_not_another_backbone():
    model = torch.nn.Module()
    model.backbone, model.head = torch.nn.Linear(2, 2), torch.nn.Linear(2, 3)
    state = {name: torch.ones_like(value) for name, value in model.state_dict().items()}
    state["head.weight"] = torch.ones(5, 2)
    assert "head.weight: file (5, 2), model (3, 2)" in load_state(model, state, "x.pth", exact=False)
    assert bool((model.backbone.weight == 1).all())
    with pytest.raises(UserError, match=r"x\.pth does not fit the model: 1 tensors"):
        load_state(model, state, "x.pth", exact=True)
    del state["backbone.bias"]
    with pytest.raises(UserError, match=r"model's backbone: .*1 missing \(backbone.bias\)"):
        load_state(model, state, "x.pth", exact=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there(images, tmp_path):
    with pytest.raises(UserError, match="--device cuda"):
        build_training(tiny(images), tmp_path, device="cuda")
    cfg = tiny(images, **{"optim_wrapper.type": "AmpOptimWrapper"})
    with pytest.raises(UserError, match="needs a GPU"):
        build_training(cfg, tmp_path)
    with pytest.raises(UserError, match="needs a GPU; on the CPU use --amp, for bfloat16"):
        build_training(tiny(images), tmp_path, amp="float16", device="cpu")
    with pytest.raises(UserError, match=r"unknown --amp 'fp8'.*bfloat16, float16"):
        build_training(tiny(images), tmp_path, amp="fp8", device="cpu")


def test_float16_scales_the_loss():
    wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW"))
    use_autocast(wrapper, "float16")
    assert (wrapper["type"], wrapper["dtype"], wrapper["loss_scale"]) == ("AmpOptimWrapper", "float16", "dynamic")


def test_amp_trains_in_bfloat16(images, tmp_path):
    run = build_training(tiny(images), tmp_path, amp=True, device="cpu")
    seen = []
    run.model.head.fc.register_forward_hook(lambda fc, inputs, output: seen.append((fc.training, output.dtype)))
    run.train()
    assert set(seen) == {(True, torch.bfloat16), (False, torch.float32)}
    assert {value.dtype for value in run.model.parameters()} == {torch.float32}


def test_the_console_is_for_people(images, tmp_path, capfd):
    build_training(tiny(images, iters=2), tmp_path, device="cpu").train()
    lines = capfd.readouterr().out.splitlines()
    assert any(line.startswith("train 2/2  loss ") and "lr " in line and "eta 0:00" in line for line in lines), lines
    assert len(lines) <= 6, lines
    log = next(tmp_path.glob("*/*.log")).read_text()
    assert "System environment" in log


def test_the_console_says_what_was_loaded(images, trained, tmp_path, capsys):
    """And what was left out; a start from random weights says nothing of the kind."""
    weights = next(trained.glob("*.pth"))
    build_training(tiny(images, **{"model.backbone.pretrained": str(weights)}), tmp_path / "a", device="cpu").train()
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("van_b0: "))
    tensors = len(torch.load(weights, weights_only=True)["state_dict"])
    assert f"{tensors} tensors from {weights} (ziggurat)" in line
    build_training(tiny(images), tmp_path / "b", device="cpu").train()
    assert "tensors from" not in capsys.readouterr().out


@pytest.mark.parametrize(("take", "mean", "var"), [("mean", [0.5, 1.5], 0.5), ("first", [0.0, 0.0], 0.0)])
def test_batch_norm_statistics_become_those_of_all_processes_or_of_the_first(monkeypatch, take, mean, var):
    norm = torch.nn.BatchNorm2d(2)
    norm.running_mean += torch.tensor([1.0, 3.0])
    monkeypatch.setattr(hooks, "get_world_size", lambda: 2)
    monkeypatch.setattr(hooks, "all_reduce", lambda flat, op: flat.mul_(0.5))  # the other process holds zeros
    monkeypatch.setattr(hooks, "broadcast", lambda flat, src: flat.zero_())
    hooks.unite_buffers(norm, take)
    assert norm.running_mean.tolist() == mean and norm.running_var.tolist() == [var, var]
    assert norm.num_batches_tracked.item() == 0


def test_buffers_are_united_in_one_of_two_ways():
    with pytest.raises(UserError, match="unknown take of BuffersHook 'last'"):
        hooks.BuffersHook("last")


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (
            "MMDistributedDataParalel",
            "unknown model_wrapper_cfg.type 'MMDist.*; .*MMDistributedDataPa",
        ),
        ("MMFullyShardedDataParallel", "saves in the first process only.*; allowed: MMDistributedDataParallel"),
        ("MMSeparateDistributedDataParallel", "wraps each part of a model.*; allowed: MMDistributedDataParallel"),
    ],
)
def test_a_model_wrapper_that_cannot_work_is_refused(images, tmp_path, named, message):
    """Also where one process trains and nothing would be wrapped."""
    with pytest.raises(UserError, match=message):
        build_training(tiny(images, **{"model_wrapper_cfg.type": named}), tmp_path, device="cpu")


def test_the_usual_model_wrapper_is_ddp():
    assert wrapper_class(None) is wrapper_class({"find_unused_parameters": True}) is MMDistributedDataParallel
    assert wrapper_class({"type": MMDistributedDataParallel}) is MMDistributedDataParallel


def test_a_wrapper_that_is_no_ddp_gets_its_own_arguments_alone():
    class Plain(torch.nn.Module):
        def __init__(self, module, note):
            super().__init__()
            self.module, self.note = module, note

    model = torch.nn.Linear(1, 1)
    wrapped = wrap(model, dict(type=Plain, note="kept"), "cpu", find_unused_parameters=True)
    assert wrapped.module is model and wrapped.note == "kept"

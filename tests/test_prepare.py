"""What a config leaves to be completed: the test set is the validation set unless said otherwise, in whole or in part;
data sets without a root take the config's; num_classes reaches every head."""

import pytest
from mmengine.config import Config

from engine.prepare import prepare_splits, set_num_classes


def config(**more):
    val = dict(batch_size=4, dataset=dict(type="Photos", folder="val", pipeline=["a"]))
    return Config(
        dict(
            data_root="data",
            val_dataloader=val,
            val_evaluator=dict(type="IoU", k=1),
            val_cfg=dict(type="ValLoop"),
            **more,
        )
    )


def test_testing_uses_the_validation_set():
    cfg = config()
    prepare_splits(cfg)
    assert cfg.test_dataloader == cfg.val_dataloader and cfg.test_evaluator == cfg.val_evaluator
    assert cfg.test_cfg.type == "TestLoop" and cfg.val_cfg.type == "ValLoop"
    cfg.test_dataloader.batch_size = 1
    assert cfg.val_dataloader.batch_size == 4


def test_single_test_options_change_that_copy():
    cfg = config(test_dataloader=dict(batch_size=1, dataset=dict(folder="test")), test_evaluator=dict(k=2))
    prepare_splits(cfg)
    assert cfg.test_dataloader.dataset == dict(type="Photos", folder="test", pipeline=["a"], data_root="data")
    assert cfg.test_dataloader.batch_size == 1 and cfg.test_evaluator == dict(type="IoU", k=2)


def test_a_test_set_of_its_own_stays():
    own = dict(batch_size=2, dataset=dict(type="Other", data_root="else"))
    cfg = config(test_dataloader=own, test_evaluator=[dict(type="A"), dict(type="B")])
    prepare_splits(cfg)
    assert cfg.test_dataloader == own and len(cfg.test_evaluator) == 2


@pytest.mark.parametrize("times", [1, 2])
def test_doing_it_again_changes_nothing(times):
    cfg = config(
        train_dataloader=dict(dataset=dict(type="RepeatDataset", dataset=dict(type="Photos", data_root="own")))
    )
    for _ in range(times):
        prepare_splits(cfg)
    assert cfg.train_dataloader.dataset.dataset.data_root == "own"
    assert "data_root" not in cfg.train_dataloader.dataset
    assert cfg.val_dataloader.dataset.data_root == cfg.test_dataloader.dataset.data_root == "data"


def test_num_classes_reaches_every_head():
    model = Config(
        dict(m=dict(heads=[dict(num_classes=80), dict(num_classes=80)], mask=dict(num_classes=80), rpn=dict(a=1)))
    )
    set_num_classes(model.m, 7)
    assert [head.num_classes for head in model.m.heads] == [7, 7] and model.m.mask.num_classes == 7
    assert "num_classes" not in model.m.rpn

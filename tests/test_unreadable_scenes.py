"""A validation of detection or segmentation goes on without the few images that cannot be read.

Its metrics are those of the other images. The unreadable ones are counted and listed. Testing stops at the first one.
"""

import dense_data
import pytest
import torch
from helpers import run
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS
from torch.utils.data import DataLoader

from backbones import UserError
from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_training
from ziggurat.engine.unreadable import ScoredEvaluator, is_unscored, records, skip_unreadable

CONFIGS = {
    "detection": "detection/configs/demo/mask_rcnn_van_b0_digits.py",
    "segmentation": "segmentation/configs/demo/semantic_fpn_van_b0_digits.py",
}
WRITE = {
    "detection": lambda root, count: dense_data.write_coco(root, {"train": 2, "val": count}),
    "segmentation": lambda root, count: dense_data.write_masks(root, {"training": 2, "validation": count}),
}
IMAGES = {"detection": "val2017/{:04d}.png", "segmentation": "images/validation/{}.png"}
TRAINED = {"detection": "train2017/{:04d}.png", "segmentation": "images/training/{}.png"}
LIST = "unreadable_val.txt"


@pytest.fixture(autouse=True)
def at_root(monkeypatch, cut_depths, request):
    monkeypatch.chdir(request.config.rootpath)
    cut_depths("van_b0", (1, 1, 1, 1))


def config_of(task, root, **options):
    options |= {"data_root": str(root), "model.backbone.pretrained": None, **dense_data.SMALL_LOADERS}
    if task == "detection":
        options |= {"model.test_cfg.rpn.max_per_img": 20, "model.test_cfg.rcnn.max_per_img": 10}
    if task == "segmentation":
        options |= {"classes": ["box", "disc", "ground"], "model.decode_head.loss_decode.class_weight": None}
        options |= {f"{split}_dataloader.dataset.metainfo": None for split in ("train", "val")}
    return load_config(CONFIGS[task], options)


def break_image(task, root, index, names=IMAGES):
    path = root / names[task].format(index)
    path.write_bytes(path.read_bytes()[:200])
    return path.name


def dataset_of(task, root, share):
    cfg = config_of(task, root)
    dataset = DATASETS.build(cfg.val_dataloader.dataset | {"_scope_": cfg.default_scope})
    skip_unreadable(dataset, share)
    (record,) = records(dataset)
    record.is_scored = True
    return dataset, record


@pytest.mark.parametrize("task", CONFIGS)
@pytest.mark.parametrize("workers", [0, 2])
def test_the_next_image_stands_for_an_unreadable_one(task, workers, tmp_path):
    root = WRITE[task](tmp_path / "data", 5)
    names = [break_image(task, root, index) for index in (1, 2)]
    dataset, record = dataset_of(task, root, 0.5)
    items = [item for batch in DataLoader(dataset, 2, num_workers=workers, collate_fn=pseudo_collate) for item in batch]
    assert len(items) > 0 and record.count == 2 and [name.rsplit("/")[-1] for name in record.names] == names
    samples = [dataset[index]["data_samples"] for index in range(5)]
    assert [is_unscored(sample) for sample in samples] == [False, True, True, False, False]
    assert len({sample.img_path for sample in samples}) == 3
    for before, after in ((0.2, "0.2 allows 1"), (0.0, "0.0 allows 0")):
        dataset, _ = dataset_of(task, root, before)
        with pytest.raises(UserError, match=rf"of 5 validation images cannot be read: .*{after}"):
            [dataset[index] for index in range(5)]


@pytest.mark.parametrize("task", CONFIGS)
def test_a_validation_scores_the_other_images(task, tmp_path, capsys):
    """Two runs without a step of learning: one has a broken image among the others, one has the others alone.

    Both train with another image in the place of a broken one.
    """
    found = {}
    for name, count in (("broken", 4), ("whole", 3)):
        root = WRITE[task](tmp_path / name, count)
        break_image(task, root, 1, TRAINED)
        if name == "broken":
            break_image(task, root, 3)
        once = dict(_delete_=True, type="IterBasedTrainLoop", max_iters=1, val_interval=1)
        rates = {"optim_wrapper.optimizer.lr": 0.0, "param_scheduler": [], "train_cfg": once, "max_unreadable": 0.5}
        logs = {"default_hooks.checkpoint.interval": -1, "default_hooks.logger.interval": 1}
        sampler = {"train_dataloader.sampler": dict(_delete_=True, type="InfiniteSampler", shuffle=False)}
        cfg = config_of(task, root, randomness=dict(seed=0), **rates, **logs, **sampler)
        runner = build_training(cfg, tmp_path / "run" / name, device="cpu")
        runner.train()
        scalars = {key: float(value.current()) for key, value in runner.message_hub.log_scalars.items()}
        found[name] = {key: one for key, one in scalars.items() if key.startswith("val/") and "time" not in key}
    assert found["broken"].keys() == found["whole"].keys() and found["broken"]
    assert found["broken"] == pytest.approx(found["whole"], abs=1e-6, nan_ok=True)
    listed = (tmp_path / "run/broken" / LIST).read_text().splitlines()
    assert [line.rsplit("/")[-1] for line in listed] == [IMAGES[task].format(3).rsplit("/")[-1]]
    (trained,) = (tmp_path / "run/broken/unreadable.txt").read_text().splitlines()
    assert trained.endswith(TRAINED[task].format(1))
    said = capsys.readouterr().err
    assert "1 of 4 validation images cannot be read" in said and "1 of 2 training images cannot be read" in said
    assert not (tmp_path / "run/whole" / LIST).is_file()


def test_metrics_do_not_see_what_stands_for_others():
    from mmdet.structures import DetDataSample
    from mmengine.evaluator import BaseMetric

    class Seen(BaseMetric):
        def process(self, data_batch, data_samples):
            self.results += [(a, b["img_id"]) for a, b in zip(data_batch["inputs"], data_samples, strict=True)]

        def compute_metrics(self, results):
            return {"seen": results}

    metric = Seen()
    evaluator = ScoredEvaluator([metric])
    samples = [DetDataSample(metainfo=dict(img_id=i, unscored=i in (1, 2))) for i in range(4)]
    for batch in (samples[:2], samples[2:3], samples[3:]):
        inputs = [torch.tensor(sample.img_id) for sample in batch]
        evaluator.process(batch, dict(inputs=inputs, data_samples=batch))
    assert [(int(a), b) for a, b in metric.results] == [(0, 0), (3, 3)]


@pytest.mark.parametrize("task", CONFIGS)
def test_testing_stops_at_the_first(task, tmp_path, monkeypatch, capsys):
    import importlib.util

    from ziggurat.engine.tasks import task_for

    spec = importlib.util.spec_from_file_location("tool_test", "tools/test.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    root = WRITE[task](tmp_path / "data", 2)
    name = break_image(task, root, 1)
    cfg = config_of(task, root)
    torch.save({"state_dict": task_for(cfg).build_model(cfg).state_dict()}, tmp_path / "model.pth")
    cfg.dump(tmp_path / "config.py")
    argv = [tmp_path / "config.py", tmp_path / "model.pth", "--device", "cpu", "--work-dir", tmp_path / "run"]
    status, _, err = run(tool, argv, monkeypatch, capsys)
    assert status == 2 and name in err and err.count("\n") == 1

"""mmdet's and mmseg's own tools, apis and inferencers run on the config and checkpoint of a run here.

Each library's part runs in one fresh interpreter. It imports the library first, and nothing of this project by name.
"""

import copy
import json
import subprocess
import sys

import dense_data
import pytest
from PIL import Image

from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_testing, build_training

START = """
import json, runpy, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
config, checkpoint, image, out = sys.argv[1:]

def tool(library, name, *argv):
    path = Path(library.__file__).parent / ".mim/tools" / name
    sys.argv = [str(path), *argv]
    runpy.run_path(str(path), run_name="__main__")

def metrics(folder):  # mmengine writes them as FOLDER/TIME/TIME.json
    (file,) = Path(folder).glob("*/*.json")
    return json.loads(file.read_text())
"""
DETECTION = """
import mmdet
from mmdet.apis import DetInferencer, inference_detector, init_detector
model = init_detector(config, checkpoint, device="cpu")
instances = inference_detector(model, image).pred_instances
inferencer = DetInferencer(config, checkpoint, device="cpu", show_progress=False)
(inferred,) = inferencer(image)["predictions"]
tool(mmdet, "test.py", config, checkpoint, "--work-dir", out + "/test")
tool(mmdet, "train.py", config, "--work-dir", out + "/train")
tool(mmdet, "analysis_tools/get_flops.py", config, "--num-images", "1")
tool(mmdet, "analysis_tools/browse_dataset.py", config, "--output-dir", out + "/browse", "--not-show")
print()
print(json.dumps(dict(
    classes=model.dataset_meta["classes"],
    same=inferred["scores"] == instances.scores.tolist() and inferred["labels"] == instances.labels.tolist(),
    metrics=metrics(out + "/test"),
)))
"""
SEGMENTATION = """
import mmseg
from mmseg.apis import MMSegInferencer, inference_model, init_model
model = init_model(config, checkpoint, device="cpu")
classes = inference_model(model, image).pred_sem_seg.data[0].numpy()
inferencer = MMSegInferencer(config, checkpoint, device="cpu", show_progress=False)
inferred = inferencer(image)["predictions"]
tool(mmseg, "test.py", config, checkpoint, "--work-dir", out + "/test")
tool(mmseg, "train.py", config, "--work-dir", out + "/train")
tool(mmseg, "analysis_tools/get_flops.py", config, "--shape", "64", "64")
tool(mmseg, "analysis_tools/browse_dataset.py", config, "--output-dir", out + "/browse", "--not-show")
print()
print(json.dumps(dict(
    classes=model.dataset_meta["classes"],
    same=bool((inferred == classes).all()) and classes.shape == (64, 64),
    metrics=metrics(out + "/test"),
)))
"""
CLASSIFICATION = """
from mmengine.config import Config
from mmengine.runner import Runner
cfg = Config.fromfile(config)
cfg.work_dir, cfg.load_from = out + "/test", checkpoint
Runner.from_cfg(cfg).test()
cfg = Config.fromfile(config)
cfg.work_dir = out + "/train"
Runner.from_cfg(cfg).train()
print()
print(json.dumps(dict(metrics=metrics(out + "/test"))))
"""
SHORT = {
    "model.backbone.pretrained": None,
    "train_cfg": dict(_delete_=True, type="IterBasedTrainLoop", max_iters=2, val_interval=2),
    "train_dataloader.sampler.type": "InfiniteSampler",
    "param_scheduler": [],
    "log_processor.by_epoch": False,
    "default_hooks.checkpoint.by_epoch": False,
    "default_hooks.checkpoint.interval": 2,
}


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


def run_theirs(program, config, options, image, folder):
    """What the program prints last, and the metrics that the same checkpoint has here.

    It is run on the config and the checkpoint that a short training leaves in ``folder / "run"``.
    """
    cfg = load_config(config, copy.deepcopy(SHORT) | dense_data.SMALL_LOADERS | options)
    work_dir = folder / "run"
    build_training(cfg, work_dir, device="cpu").train()
    checkpoint, (dumped,) = work_dir / "iter_2.pth", work_dir.glob("*.py")
    command = [sys.executable, "-c", START + program, *map(str, (dumped, checkpoint, image, folder / "theirs"))]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (folder / "theirs/train/iter_2.pth").is_file()
    theirs = json.loads(done.stdout.splitlines()[-1])
    return theirs, build_testing(cfg, checkpoint, folder / "ours", device="cpu").test()


def check(theirs, ours):
    for name, value in ours.items():
        assert theirs["metrics"][name] == pytest.approx(value, abs=1e-6), name


def test_mmdet_runs_a_dumped_config(tmp_path):
    data = dense_data.write_coco(tmp_path / "data")
    options = {
        "data_root": str(data),
        **dense_data.small_coco_pipelines(with_mask=True),
        **dense_data.SLIM_ROI,
        "model.roi_head.bbox_head.in_channels": 32,
        "model.roi_head.bbox_head.fc_out_channels": 32,
    }
    config = "detection/configs/van/mask_rcnn_van_b0_fpn_1x_coco.py"
    theirs, ours = run_theirs(DETECTION, config, options, next(data.glob("val2017/*")), tmp_path)
    check(theirs, ours)
    assert theirs["same"] and theirs["classes"] == ["box", "disc"]
    assert len(list(tmp_path.glob("theirs/browse/*"))) == len(list(data.glob("train2017/*")))


def test_mmseg_runs_a_dumped_config(tmp_path):
    data = dense_data.write_masks(tmp_path / "data")
    options = {
        "data_root": str(data),
        "classes": ["box", "disc", "background"],
        **dense_data.small_mask_pipelines(),
        "model.decode_head.channels": 32,
        "model.auxiliary_head.channels": 16,
    }
    config = "segmentation/configs/van/upernet_van_b0_512x512_160k_ade20k.py"
    theirs, ours = run_theirs(SEGMENTATION, config, options, next(data.glob("images/validation/*")), tmp_path)
    check(theirs, ours)
    assert theirs["same"] and theirs["classes"] == ["box", "disc", "background"]


def test_mmengine_runs_a_dumped_config_of_a_classifier(tmp_path):
    for split in ("train", "val"):
        for index, name in enumerate(("box", "disc")):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for i in range(3):
                Image.fromarray(dense_data.scene(2 * i + index)[0]).save(folder / f"{i}.png")
    options = {"data_root": str(tmp_path / "data")}
    theirs, ours = run_theirs(CLASSIFICATION, "classification/configs/demo/van_b0_digits.py", options, "", tmp_path)
    check(theirs, ours)

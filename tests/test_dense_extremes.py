"""The worst and best images of detection and segmentation, in the order of plain F1 and scikit-learn's IoU.

The picture shows image, ground truth and prediction side by side.
"""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.structures import InstanceData, PixelData
from PIL import Image
from sklearn.metrics import jaccard_score
from torch.utils.data import DataLoader

import detection  # noqa: F401
import segmentation  # noqa: F401
from detection.extremes import ObjectImagesHook
from segmentation.extremes import MapImagesHook
from ziggurat.engine import extremes
from ziggurat.engine.sheet import draw_sheet

HIT, NEAR, FAR = [10, 10, 30, 30], [10, 22, 30, 42], [40, 40, 60, 60]
PALETTE = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


class Images(torch.utils.data.Dataset):
    """Grey images on disk."""

    metainfo = {"classes": ("cat", "dog", "owl"), "palette": PALETTE}

    def __init__(self, folder, truths):
        self.truths = truths
        self.paths = [folder / f"{i}.png" for i in range(len(truths))]
        for path in self.paths:
            Image.new("RGB", (64, 64), (90, 90, 90)).save(path)

    def __len__(self):
        return len(self.truths)

    def __getitem__(self, index):
        return index

    def get_data_info(self, index):
        return dict(img_path=str(self.paths[index]), height=64, width=64, instances=self.truths[index])


def shown(hook, dataset, outputs, tmp_path, monkeypatch, batch=2):
    """The blocks of the picture, and the list."""
    blocks = []
    monkeypatch.setattr(extremes, "draw_sheet", lambda given, *form: blocks.extend(given) or draw_sheet(given, *form))
    loader = DataLoader(dataset, batch, sampler=DefaultSampler(dataset, shuffle=False))
    loop = SimpleNamespace(dataloader=loader, evaluator=SimpleNamespace(metrics=[]))
    runner = SimpleNamespace(work_dir=tmp_path, test_loop=loop)
    hook.before_test_epoch(runner)
    for i in range(0, len(dataset), batch):
        hook.after_test_iter(runner, i, None, outputs[i : i + batch])
    hook.after_test_epoch(runner)
    path = tmp_path / "test_images.json"
    return blocks, json.loads(path.read_text()) if path.is_file() else None


def thing(box, label, crowd=0):
    return dict(bbox=box, bbox_label=label, ignore_flag=crowd)


def detected(*found, masks=False):
    """What a detector gives for an image: (box, label, score) each."""
    from mmdet.structures import DetDataSample

    sample = DetDataSample()
    boxes = torch.tensor([box for box, *_ in found], dtype=torch.float).reshape(-1, 4)
    sample.pred_instances = InstanceData(
        bboxes=boxes,
        labels=torch.tensor([label for _, label, _ in found], dtype=torch.long),
        scores=torch.tensor([score for *_, score in found]),
    )
    if masks:
        filled = torch.zeros(len(found), 64, 64, dtype=torch.bool)
        for mask, box in zip(filled, boxes.int().tolist()):
            mask[box[1] : box[3], box[0] : box[2]] = True
        sample.pred_instances.masks = filled
    return sample


SCENES = [  # truth, predictions, F1
    ([thing(HIT, 0), thing(FAR, 1)], [(HIT, 0, 0.9), (HIT, 1, 0.8), (FAR, 1, 0.2)], 2 / 4),  # below the score
    ([thing(HIT, 0)], [(HIT, 0, 0.9)], 1),
    ([thing(HIT, 0)], [(NEAR, 0, 0.9)], 0),
    ([], [], 1),
    ([thing(HIT, 0)], [(HIT, 0, 0.5), (HIT, 0, 0.9), (FAR, 2, 0.9)], 2 / 4),
    ([thing(HIT, 0), thing(FAR, 1, crowd=1)], [(HIT, 0, 0.9), (FAR, 1, 0.9)], 1),  # a crowd does not count
    ([], [(HIT, 0, 0.9)], 0),
    ([thing(HIT, 0), thing(FAR, 1)], [(FAR, 1, 0.7)], 2 / 3),
]


@pytest.mark.parametrize("masks", [False, True])
def test_the_worst_images_of_a_detector_come_first(masks, tmp_path, monkeypatch):
    dataset = Images(tmp_path, [truth for truth, *_ in SCENES])
    outputs = [detected(*found, masks=masks) for _, found, _ in SCENES]
    blocks, lists = shown(ObjectImagesHook(), dataset, outputs, tmp_path, monkeypatch)
    order = sorted(range(len(SCENES)), key=lambda i: (SCENES[i][2], i))
    assert [one["index"] for one in lists["worst"]] == order[:4]
    assert [one["quality"] for one in lists["worst"]] == pytest.approx([SCENES[i][2] for i in order[:4]])
    assert {one["index"] for one in lists["best"]} == set(order[4:])
    first = lists["worst"][0]
    assert (first["objects"], first["hits"], first["errors"]) == (1, 0, {"localisation": 1})
    assert first["image"] == str(dataset.paths[2])
    (_, worst), (_, best) = blocks
    assert worst[0].lines[:2] == ["F1 0.00 at score 0.3: 0 of 1 found", "1 localisation"]
    assert best[0].lines[1] == "no errors" and best[0].colour != worst[0].colour
    assert Image.open(tmp_path / "test_images.png").width > 2 * 1080


def test_truth_and_predictions_of_objects_are_drawn_where_they_are(tmp_path, monkeypatch):
    truth = [thing(FAR, 1) | dict(mask=[[40, 40, 60, 40, 60, 60, 40, 60]])]
    dataset = Images(tmp_path, [truth])
    blocks, _ = shown(ObjectImagesHook(), dataset, [detected((HIT, 0, 0.9), masks=True)], tmp_path, monkeypatch)
    page = np.asarray(blocks[0][1][0].image).astype(int)
    height, width = page.shape[0], (page.shape[1] - 16) // 3
    panels = [page[height - width :, i * (width + 8) :][:, :width] for i in range(3)]
    scale = width / 64
    for panel, colour, (left, top, right, bottom) in zip(panels, (None, 1, 0), (HIT, FAR, HIT)):
        inside = panel[int((top + bottom) / 2 * scale), int((left + right) / 2 * scale)]
        assert (inside == 90).all() if colour is None else inside.argmax() == colour and inside.max() > 140
        assert np.abs(panel[int(35 * scale), int(60 * scale)] - 90).max() <= 2


def segmented(truth, found, path="a/b.png"):
    from mmseg.structures import SegDataSample

    sample = SegDataSample(metainfo=dict(img_path=str(path)))
    sample.gt_sem_seg, sample.pred_sem_seg = (PixelData(data=torch.from_numpy(one)[None]) for one in (truth, found))
    return sample


def test_the_worst_images_of_a_segmenter_come_first(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    truths = [rng.integers(0, 2, (64, 64)) for _ in range(6)]
    found = [np.where(rng.random((64, 64)) < share, one, rng.integers(0, 3, (64, 64))) for share, one in zip(
        (0.5, 0.9, 0.2, 0.7, 0.6, 0.1), truths)]  # fmt: skip
    truths[1][:20] = 255
    truths[3][:] = 255  # nothing is labelled there
    dataset = Images(tmp_path, truths)
    outputs = [segmented(*pair, path) for *pair, path in zip(truths, found, dataset.paths)]
    blocks, lists = shown(MapImagesHook(2), dataset, outputs, tmp_path, monkeypatch)
    wanted = {}
    for i, (true, guess) in enumerate(zip(truths, found)):
        kept = true != 255
        if kept.any():
            wanted[i] = jaccard_score(true[kept], guess[kept], average="macro")
    order = sorted(wanted, key=wanted.get)
    assert [one["index"] for one in lists["worst"]] == order[:2]
    assert [one["index"] for one in lists["best"]] == order[:-3:-1]
    for one in (*lists["worst"], *lists["best"]):
        assert one["quality"] == pytest.approx(wanted[one["index"]])
        assert one["image"] == str(dataset.paths[one["index"]]) and set(one["ious"]) == {"cat", "dog", "owl"}
    assert blocks[0][1][0].lines[1].startswith("lowest: owl 0.0 %, ")


def test_truth_and_prediction_of_pixels_are_drawn_where_they_are(tmp_path, monkeypatch):
    truth, found = np.full((64, 64), 255), np.zeros((64, 64), int)
    truth[:, :32] = 1
    dataset = Images(tmp_path, [truth])
    blocks, _ = shown(MapImagesHook(), dataset, [segmented(truth, found, dataset.paths[0])], tmp_path, monkeypatch)
    page = np.asarray(blocks[0][1][0].image).astype(int)
    height, width = page.shape[0], (page.shape[1] - 16) // 3
    left, middle, right = (page[height - width :, i * (width + 8) :][:, :width] for i in range(3))
    assert (left == 90).all() and (right.argmax(-1) == 0).all()
    assert (middle[:, : width // 2 - 2].argmax(-1) == 1).all() and (middle[:, width // 2 + 2 :] == 90).all()


def test_a_loop_that_does_not_tell_leaves_no_picture(tmp_path, monkeypatch):
    from mmdet.structures import DetDataSample
    from mmseg.structures import SegDataSample

    dataset = Images(tmp_path, [None, None])
    for hook, sample in (
        (ObjectImagesHook(), detected()),
        (ObjectImagesHook(), DetDataSample()),
        (MapImagesHook(), SegDataSample()),
    ):
        blocks, lists = shown(hook, dataset, [sample] * 2, tmp_path, monkeypatch)
        assert blocks == [] and lists is None

"""The Predictor's answer for a panoptic model: objects, and a map of segments that mmdet's own output gives back."""

import json
from types import SimpleNamespace

import numpy as np
import predict
import pytest
import small_heads
import torch
from helpers import run
from mmdet.structures import INSTANCE_OFFSET, DetDataSample
from mmengine.structures import PixelData
from page_reader import PageReader
from PIL import Image

from backbones.files import write_json
from detection.extremes import ObjectImagesHook
from detection.panoptic_extremes import judged
from detection.panoptic_result import describe_segments, segments_of
from detection.task import TASK
from ziggurat import engine
from ziggurat.engine.config import load_config
from ziggurat.engine.draw import draw_segments
from ziggurat.engine.pages.report import write_report_page
from ziggurat.engine.results import Panoptic

NAMES = ("cat", "dog", "sky")


@pytest.fixture(autouse=True)
def shallow_at_root(monkeypatch, cut_depths, request):
    monkeypatch.chdir(request.config.rootpath)
    cut_depths("van_b0", (1, 1, 1, 1))


def test_segments_are_mmdets():
    """Two cats, the sky, and pixels of no segment, which mmdet gives the index behind the last class."""
    ids = np.full((6, 8), len(NAMES))
    ids[:, :4] = 2
    ids[:2, 4:] = 0 + 1 * INSTANCE_OFFSET
    ids[2, 4:7] = 0 + 2 * INSTANCE_OFFSET
    found, segments = segments_of(ids, NAMES)
    assert [tuple(one) for one in segments] == [
        (1, 2, "sky", False, 24),
        (2, 0, "cat", True, 8),
        (3, 0, "cat", True, 3),
    ]
    for one in segments:
        value = one.label + (one.number - 1) * INSTANCE_OFFSET * one.is_thing
        np.testing.assert_array_equal(found == one.number, ids == value)
    np.testing.assert_array_equal(found == 0, ids == len(NAMES))


def test_segments_are_tinted_and_outlined():
    ids = np.zeros((40, 600), np.int32)
    ids[:, 100:300], ids[:, 300:400] = 1, 2
    drawn = np.asarray(
        draw_segments(Image.new("RGB", (600, 40)), ids, [(1, "cat", (200, 0, 0)), (2, "cat", (200, 0, 0))])
    )
    assert drawn.shape[0] > 40  # the legend
    assert drawn[20, 50].tolist() == [0, 0, 0] and drawn[20, 200].tolist() == drawn[20, 350].tolist() == [120, 0, 0]
    assert (drawn[20, [100, 300, 400]] > 200).all()


def test_the_tool_writes_the_map_and_its_segments(tmp_path, monkeypatch, capsys):
    slim = small_heads.DETECTORS["mask2former"][1]
    cfg = load_config(
        f"detection/configs/{small_heads.PANOPTIC}.py",
        {**slim, "model.backbone.arch": "van_b0", "model.backbone.pretrained": None, "data_root": "none"}
        | {"val_dataloader.dataset.pipeline.1.scale": (64, 64), "model.test_cfg.iou_thr": 0.0}
        | {"model.test_cfg.filter_low_score": False},
    )
    model = small_heads.built(cfg)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "model.pth")
    cfg.dump(tmp_path / "config.py")
    pixels = small_heads.image_of(48, 64)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    argv = [tmp_path / "config.py", tmp_path / "model.pth", tmp_path / "a.png", "--out", tmp_path / "out"]
    status, _, err = run(predict, [*argv, "--device", "cpu", "--score-thr", 0], monkeypatch, capsys)
    assert status == 0, err
    found = engine.Predictor(cfg, tmp_path / "model.pth")(pixels)
    assert isinstance(found, Panoptic) and len(found.above(2.0).boxes) == 0
    assert found.panoptic_map.shape == found.above(2.0).panoptic_map.shape == (48, 64)
    written = json.loads((tmp_path / "out/a.json").read_text())
    assert written["segments"] == describe_segments(found) and len(written["boxes"]) == len(found.boxes)
    colours = np.asarray(Image.open(tmp_path / "out/panoptic/a.png")).astype(int)
    np.testing.assert_array_equal(colours @ [1, 256, 65536], found.panoptic_map)
    output = small_heads.predicted(cfg, model, pixels)
    ids = output.pred_panoptic_seg.sem_seg[0].numpy()
    assert len(np.unique(ids)) == len(np.unique(found.panoptic_map))
    for segment in written["segments"]:
        value = np.unique(ids[found.panoptic_map == segment["id"]])
        assert len(value) == 1 and value[0] % INSTANCE_OFFSET == segment["label"]
        assert segment["isthing"] == int(value[0] >= INSTANCE_OFFSET)
        assert segment["area"] == (found.panoptic_map == segment["id"]).sum()
    assert (tmp_path / "out/a.png").is_file()


def random_case(rng, folder):
    """The truth of an image as the data set tells it, mmdet's prediction, and the pooled PQ of both by files."""
    from mmdet.evaluation.functional import pq_compute_single_core  # after detection has put panopticapi in place

    names, things = ("cat", "dog", "road", "sky"), 2
    truth = rng.integers(0, 6, (4, 4)).repeat(12, 0).repeat(12, 1)
    found = np.where(rng.random((12, 12)).repeat(4, 0).repeat(4, 1) < 0.8, truth, rng.integers(0, 6, truth.shape))
    labels = dict(zip(range(1, 6), (0, 0, 1, 2, 3)))
    guessed = labels | {1: 1}
    pixels = np.stack([truth % 256, truth // 256, truth // 65536], -1).astype(np.uint8)
    (folder / "truth").mkdir(), (folder / "found").mkdir()
    Image.fromarray(pixels).save(folder / "truth/a.png")
    Image.fromarray(np.stack([found, 0 * found, 0 * found], -1).astype(np.uint8)).save(folder / "found/a.png")
    ids = np.full(found.shape, len(names))
    for number, label in guessed.items():
        ids[found == number] = label + number * INSTANCE_OFFSET * (label < things)
    lists = [
        [dict(id=n, category_id=c, iscrowd=0, area=int((m == n).sum())) for n, c in of.items() if (m == n).any()]
        for m, of in ((truth, labels), (found, guessed))
    ]
    categories = {i: dict(id=i, isthing=int(i < things)) for i in range(4)}
    pairs = [tuple(dict(image_id=0, file_name="a.png", segments_info=one) for one in lists)]
    stat = pq_compute_single_core(0, pairs, folder / "truth", folder / "found", categories)
    sums = {name: sum(getattr(stat[i], name) for i in range(4)) for name in ("iou", "tp", "fp", "fn")}
    segments = [dict(id=n, category=c, is_thing=c < things) for n, c in labels.items()]
    info = dict(img_path=str(folder / "truth/a.png"), seg_map_path=str(folder / "truth/a.png"), segments_info=segments)
    output = DetDataSample()
    output.pred_panoptic_seg = PixelData(sem_seg=torch.from_numpy(ids)[None])
    return info, output, dict(classes=names, thing_classes=names[:things]), sums


@pytest.mark.parametrize("seed", range(4))
def test_the_quality_of_an_image_is_that_of_its_segments(seed, tmp_path):
    info, output, metainfo, sums = random_case(np.random.default_rng(seed), tmp_path)
    quality, facts = judged(output, info, metainfo)
    assert quality == pytest.approx(sums["iou"] / (sums["tp"] + (sums["fp"] + sums["fn"]) / 2)) and 0 < quality < 1
    assert (facts["hits"], facts["extra"], facts["segments"]) == (sums["tp"], sums["fp"], sums["tp"] + sums["fn"])


def test_the_worst_and_best_images_are_drawn(tmp_path):
    cases = []
    for seed in range(2):
        (tmp_path / str(seed)).mkdir()
        cases.append(random_case(np.random.default_rng(seed), tmp_path / str(seed)))
    infos = [info for info, *_ in cases]

    class Maps(torch.utils.data.Dataset):
        metainfo = cases[0][2]

        def __len__(self):
            return len(infos)

        def get_data_info(self, index):
            return infos[index]

    loader = torch.utils.data.DataLoader(Maps(), 1, shuffle=False)
    loop = SimpleNamespace(dataloader=loader, evaluator=SimpleNamespace(metrics=[]))
    runner = SimpleNamespace(work_dir=tmp_path / "work", test_loop=loop)
    hook = ObjectImagesHook(count=1, folder=str(tmp_path))
    rows = [{"class": name, "PQ": 50.0} for name in cases[0][2]["classes"]]
    write_json(tmp_path / "report.json", {"images": 2, "metrics": {"PQ": 50.0}, "absent": [], "classes": rows})
    hook.before_test_epoch(runner)
    for i, (_, output, *_) in enumerate(cases):
        hook.after_test_iter(runner, i, None, [output])
    hook.after_test_epoch(runner)
    written = json.loads((tmp_path / "test_images.json").read_text())
    found = [judged(output, info, metainfo)[0] for info, output, metainfo, _ in cases]
    assert written["worst"][0]["quality"] == pytest.approx(min(found)) and set(written["best"][0]) >= {
        "segments",
        "hits",
    }
    assert (tmp_path / "test_images.png").stat().st_size
    page = PageReader(write_report_page(tmp_path, TASK, "x.pth"))
    listed = [*written["worst"], *written["best"]]
    assert [card["files"] for card in page.cards] == [list(one["pictures"].values()) for one in listed]
    lost = [one["segments"] - one["hits"] for one in listed]
    assert page.counts()[0, "missed"] == sum(count > 0 for count in lost) and "PQ, %" in page.text
    assert page.counts()[0, "extra"] == sum(one["extra"] > 0 for one in listed)

"""Panoptic maps: the quality PQ, data in COCO's format, errors in it, and a Mask2Former that trains and is tested."""

import copy
import json
import sys

import dense_data
import numpy as np
import pytest
import torch

from backbones import UserError
from detection.panoptic import PanopticFormat
from detection.panoptic_quality import PQStat, id2rgb, rgb2id
from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_training

LEAF = "detection/configs/van/mask2former_van_b2_lsj_50e_coco_panoptic.py"


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


@pytest.fixture
def data(tmp_path):
    return dense_data.write_panoptic(tmp_path / "data")


def test_colours_are_ids_in_three_bytes():
    ids = np.array([[0, 1, 255], [256, 65536, 256**3 - 1]])
    assert id2rgb(ids).tolist()[1] == [[0, 1, 0], [0, 0, 1], [255, 255, 255]]
    assert (rgb2id(id2rgb(ids)) == ids).all()
    assert id2rgb(300) == [44, 1, 0] and rgb2id([44, 1, 0]) == 300
    assert sys.modules["panopticapi"].utils.rgb2id is sys.modules["mmdet.evaluation.functional.panoptic_utils"].rgb2id


def random_maps(rng, segments):
    ids = rng.integers(0, segments + 1, (6, 6)).repeat(8, 0).repeat(8, 1)
    return ids, {number: int(rng.integers(1, 4)) for number in range(1, segments + 1)}


def plain_quality(pairs, categories):
    """PQ as in arXiv 1801.00868, equation 1, for maps without crowds."""
    figures = []
    for category in categories:
        matched, false = [], 0
        for truth, truth_of, found, found_of in pairs:
            ours = [n for n, c in found_of.items() if c == category and (found == n).any()]
            theirs = [n for n, c in truth_of.items() if c == category and (truth == n).any()]
            ious = [
                [
                    ((found == n) & (truth == m)).sum() / (((found == n) & (truth != 0)) | (truth == m)).sum()
                    for m in theirs
                ]
                for n in ours
            ]
            pairs_here = [iou for row in ious for iou in row if iou > 0.5]
            lost = sum(all(row[k] <= 0.5 for row in ious) for k in range(len(theirs)))
            void = [((found == n) & (truth == 0)).sum() / (found == n).sum() for n in ours]
            extra = sum(max(row, default=0) <= 0.5 and share <= 0.5 for row, share in zip(ious, void))
            matched, false = matched + pairs_here, false + 0.5 * (lost + extra)
        if matched or false:
            figures.append(sum(matched) / (len(matched) + false))
    return float(np.mean(figures))


def test_quality_is_the_papers(tmp_path):
    from mmdet.evaluation.functional import pq_compute_single_core
    from PIL import Image

    rng, pairs, annotations = np.random.default_rng(0), [], []
    for i in range(6):
        truth, truth_of = random_maps(rng, 5)
        found, found_of = np.where(rng.random((6, 6)).repeat(8, 0).repeat(8, 1) < 0.8, truth, 0), dict(truth_of)
        found_of[1] = 1 + truth_of[1] % 3  # of another category
        for name, ids in (("truth", truth), ("found", found)):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(id2rgb(ids)).save(tmp_path / name / f"{i}.png")
        pairs.append((truth, truth_of, found, found_of))
        infos = [
            [
                dict(id=n, category_id=c, iscrowd=0, area=int((ids == n).sum()))
                for n, c in of.items()
                if (ids == n).any()
            ]
            for ids, of in ((truth, truth_of), (found, found_of))
        ]
        annotations.append([dict(image_id=i, file_name=f"{i}.png", segments_info=info) for info in infos])
    categories = {n: dict(id=n, isthing=int(n < 3)) for n in (1, 2, 3, 4)}  # the last one does not occur
    stat = PQStat()
    for one in annotations:  # of several processes, added
        stat += pq_compute_single_core(0, [one], tmp_path / "truth", tmp_path / "found", categories)
    for isthing, wanted in ((None, (1, 2, 3)), (True, (1, 2)), (False, (3,))):
        means, each = stat.pq_average(categories, isthing)
        assert means["pq"] == pytest.approx(plain_quality(pairs, wanted)) and 0.2 < means["pq"] < 0.9
        assert means["n"] == len(wanted) and set(each) == {
            n for n in categories if n in wanted or (n == 4 and not isthing)
        }
    assert np.isnan(PQStat().pq_average(categories, None)[0]["pq"])


def panoptic_case(folder, images=5):
    """A panoptic data set of random maps without the category "sky", and predictions as a model gives them."""
    from mmdet.evaluation import INSTANCE_OFFSET
    from PIL import Image

    rng, pairs, samples = np.random.default_rng(1), [], []
    names, order = ("cat", "dog", "road", "sky"), {1: 9, 2: 4, 3: 7, 4: 2}  # the ids of the categories are not in order
    (folder / "maps").mkdir()
    content = dict(images=[], annotations=[], categories=[
        dict(id=order[n], name=name, isthing=int(n < 3)) for n, name in enumerate(names, 1)])  # fmt: skip
    for i in range(images):
        truth, truth_of = random_maps(rng, 5)
        found, found_of = np.where(rng.random((6, 6)).repeat(8, 0).repeat(8, 1) < 0.8, truth, 0), dict(truth_of)
        found_of[1] = 1 + truth_of[1] % 3
        Image.fromarray(id2rgb(truth)).save(folder / "maps" / f"{i}.png")
        segments = [
            dict(id=n, category_id=order[c], iscrowd=0, area=int((truth == n).sum()), bbox=[0, 0, 1, 1])
            for n, c in truth_of.items()
            if (truth == n).any()
        ]
        content["images"].append(dict(id=10 + i, file_name=f"{i}.jpg", height=48, width=48))
        content["annotations"].append(dict(image_id=10 + i, file_name=f"{i}.png", segments_info=segments))
        labels = np.full(found.shape, len(names))  # of no segment
        for n, c in found_of.items():
            labels[found == n] = c - 1 + n * INSTANCE_OFFSET
        predicted = dict(sem_seg=torch.from_numpy(labels)[None])
        samples.append(dict(img_id=10 + i, img_path=f"{i}.jpg", ori_shape=(48, 48), pred_panoptic_seg=predicted))
        pairs.append((truth, truth_of, found, found_of))
    (folder / "truth.json").write_text(json.dumps(content))
    return names, pairs, samples


@pytest.mark.parametrize("written", [False, True])
def test_the_quality_of_each_class_is_reported(written, tmp_path, capsys):
    from mmdet.evaluation import CocoPanopticMetric

    from detection.panoptic_metric import FullCocoPanopticMetric

    names, pairs, samples = panoptic_case(tmp_path)
    options = dict(ann_file=str(tmp_path / "truth.json"), seg_prefix=str(tmp_path / "maps"))
    results = {}
    for kind, further in ((CocoPanopticMetric, {}), (FullCocoPanopticMetric, dict(report=str(tmp_path / "report")))):
        further |= dict(outfile_prefix=str(tmp_path / "out/all")) if written and further else {}
        metric = kind(**options, **further)
        metric.dataset_meta = dict(classes=names, thing_classes=names[:2], stuff_classes=names[2:])
        metric.process({}, copy.deepcopy(samples))
        results[kind] = metric.evaluate(len(samples))
    theirs, ours = results.values()
    assert ours == pytest.approx(theirs) and "not in the ground truth: 1 of 4 classes: sky" in capsys.readouterr().err
    content = json.loads((tmp_path / "report/report.json").read_text())
    assert content["metrics"]["PQ"] == ours["coco_panoptic/PQ"] and content["absent"] == ["sky"]
    for number, row in enumerate(content["classes"], 1):
        if row["class"] == "sky":
            assert row["PQ"] is None and row["kind"] == "stuff"
        else:
            assert row["PQ"] == pytest.approx(100 * plain_quality(pairs, [number]), abs=1e-3)
        present = [(truth == n).any() for truth, of, *_ in pairs for n, c in of.items() if c == number]
        assert row["segments"] == sum(present)
    assert (tmp_path / "report/per_class.csv").read_text().count("\n") == 5
    if written:
        rows = json.loads((tmp_path / "out/all.panoptic.json").read_text())["annotations"]
        assert {one["category_id"] for row in rows for one in row["segments_info"]} == {9, 4, 7}
        assert len(list((tmp_path / "out/all.panoptic").glob("*.png"))) == len(samples)


def test_images_of_one_name_in_two_folders_have_a_map_each(tmp_path):
    from detection.panoptic_metric import FullCocoPanopticMetric

    names, _, samples = panoptic_case(tmp_path, images=2)
    content = json.loads((tmp_path / "truth.json").read_text())
    for image, annotation, sample, folder in zip(content["images"], content["annotations"], samples, "ab", strict=True):
        annotation["file_name"] = f"{folder}/0.png"
        (tmp_path / "maps" / folder).mkdir()
        (tmp_path / "maps" / image["file_name"]).with_suffix(".png").rename(tmp_path / "maps" / folder / "0.png")
        image["file_name"] = sample["img_path"] = f"{folder}/0.jpg"
    (tmp_path / "truth.json").write_text(json.dumps(content))
    given = dict(ann_file=str(tmp_path / "truth.json"), seg_prefix=str(tmp_path / "maps"))
    metric = FullCocoPanopticMetric(**given, outfile_prefix=str(tmp_path / "out"))
    metric.dataset_meta = dict(classes=names, thing_classes=names[:2], stuff_classes=names[2:])
    before = copy.deepcopy(samples)
    metric.process({}, samples)
    assert metric.evaluate(2)["coco_panoptic/PQ"] > 20
    assert sorted(path.name for path in (tmp_path / "out.panoptic").iterdir()) == ["a_0.png", "b_0.png"]
    for sample, earlier in zip(samples, before, strict=True):
        assert torch.equal(sample["pred_panoptic_seg"]["sem_seg"], earlier["pred_panoptic_seg"]["sem_seg"])


def slim(data, iters=2):
    """Options for Mask2Former at 64 pixels, with 64 channels and two layers of each kind."""
    size, head = (dense_data.SIZE, dense_data.SIZE), "model.panoptic_head"
    encoder, decoder = f"{head}.pixel_decoder.encoder", f"{head}.transformer_decoder"
    attention = {"embed_dims": 64, "num_heads": 4}
    widths = {
        f"{decoder}.layer_cfg.{part}.{k}": v
        for part in ("self_attn_cfg", "cross_attn_cfg")
        for k, v in attention.items()
    }
    widths |= {f"{encoder}.layer_cfg.self_attn_cfg.{k}": v for k, v in attention.items()}
    widths |= {f"{part}.layer_cfg.ffn_cfg.embed_dims": 64 for part in (encoder, decoder)}
    widths |= {f"{part}.layer_cfg.ffn_cfg.feedforward_channels": 64 for part in (encoder, decoder)}
    load = dict(type="LoadImageFromFile")
    return widths | {
        "data_root": str(data),
        "model.backbone.arch": "van_b0",
        "model.backbone.pretrained": None,
        "model.backbone.drop_path_rate": 0.0,
        "model.data_preprocessor.batch_augments": None,
        f"{head}.feat_channels": 64,
        f"{head}.out_channels": 64,
        f"{head}.num_queries": 8,
        f"{head}.positional_encoding.num_feats": 32,
        f"{head}.pixel_decoder.positional_encoding.num_feats": 32,
        f"{encoder}.num_layers": 2,
        f"{decoder}.num_layers": 3,
        "model.train_cfg.num_points": 256,
        "model.test_cfg.max_per_image": 5,
        "param_scheduler": [],
        "optim_wrapper.optimizer.lr": 1e-3,
        "optim_wrapper.clip_grad": None,
        "train_cfg": dict(_delete_=True, type="IterBasedTrainLoop", max_iters=iters, val_interval=iters),
        "default_hooks.checkpoint.interval": -1,
        "default_hooks.logger.interval": 1,
        "log_processor.window_size": 1,
        "train_dataloader.dataset.pipeline": [
            load,
            dict(type="LoadPanopticAnnotations"),
            dict(type="RandomFlip", prob=0.5),
            dict(type="PackDetInputs"),
        ],
        "val_dataloader.dataset.pipeline.1.scale": size,
        **dense_data.SMALL_LOADERS,
    }


def test_mask2former_trains_and_its_quality_is_measured(data, tmp_path, cut_depths):
    cut_depths("van_b0", (1, 1, 1, 1))
    cfg = load_config(LEAF, slim(data))
    head = cfg.model.panoptic_head
    assert (head.num_things_classes, head.num_stuff_classes, len(head.loss_cls.class_weight)) == (2, 1, 4)
    assert cfg.val_dataloader.dataset.metainfo.classes == ("box", "disc", "background")
    assert cfg.val_dataloader.dataset.metainfo.stuff_classes == ("background",)
    runner = build_training(cfg, tmp_path / "run", device="cpu")
    before = {key: value.clone() for key, value in runner.model.state_dict().items()}
    runner.train()
    still = [key for key, value in runner.model.named_parameters() if torch.equal(value, before[key])]
    assert still == []
    assert np.isfinite(runner.message_hub.get_scalar("train/loss").data[0]).all()
    assert {"val/coco_panoptic/PQ", "val/coco_panoptic/PQ_th"} <= set(runner.message_hub.log_scalars)


def test_cocos_numbers_stay_without_files(tmp_path):
    head = load_config(LEAF).model.panoptic_head
    assert (head.num_things_classes, head.num_stuff_classes, len(head.loss_cls.class_weight)) == (80, 53, 134)


def changed(data, change):
    path = data / "annotations/panoptic_val2017.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return load_config(LEAF, {"data_root": str(data)}).val_dataloader.dataset


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["annotations"][0].update(image_id=77), "name image ids that are not in the list of images: 77"),
        (lambda c: c["annotations"][0]["segments_info"][0].update(category_id=5), "not in the list of categories: 5"),
        (lambda c: c["annotations"][0]["segments_info"][0].pop("area"), "a segment needs an area and bbox"),
        (lambda c: c["annotations"][0]["segments_info"][0].pop("bbox"), "a segment needs an area and bbox"),
        (
            lambda c: c["categories"][0].pop("isthing"),
            "isthing of categories 0, .* is absent; allowed: 0, 1",
        ),
        (lambda c: c.update(annotations=[]), "no segments in it"),
        (lambda c: c["annotations"].pop(1), "1 of 2 images have no annotation: 0001.jpg"),
        (lambda c: c["categories"][1].update(name="box"), "several categories have the name box"),
        (lambda c: c["images"][0].update(width=63), "0000.jpg has 64x64 pixels, and by .*val2017.json 63x64"),
    ],
)
def test_errors_of_a_file_are_named(change, words, data):
    with pytest.raises(UserError, match=words) as caught:
        PanopticFormat().check(changed(data, change), "val")
    assert "panoptic_val2017.json" in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_may_list_stuff_before_things(data, tmp_path):
    """The classes are reordered, and labels, maps and quality follow their order."""
    from detection import TASK
    from detection.panoptic_metric import FullCocoPanopticMetric

    for split in ("train", "val"):
        path = data / f"annotations/panoptic_{split}2017.json"
        content = json.loads(path.read_text())
        content["categories"].insert(0, content["categories"].pop())
        path.write_text(json.dumps(content))
    cfg = load_config(LEAF, slim(data))
    TASK.check_data(cfg)
    assert cfg.train_dataloader.dataset.metainfo.classes == ("box", "disc", "background")
    dataset = TASK.build_dataset(cfg, "train")
    sample = dataset[0]["data_samples"]
    things = dict(zip(sample.gt_instances.labels.tolist(), sample.gt_instances.masks.masks))
    for label, mask in dense_data.scene(0)[1]:
        assert (things[label][:, ::-1] == mask).all() or (things[label] == mask).all()  # mirrored or not
    assert sample.gt_sem_seg.sem_seg.unique().tolist() == [0, 1, 2, 255]

    names, _, samples = panoptic_case(tmp_path)
    scores = []
    for _ in range(2):
        metric = FullCocoPanopticMetric(ann_file=str(tmp_path / "truth.json"), seg_prefix=str(tmp_path / "maps"))
        metric.dataset_meta = dict(classes=names, thing_classes=names[:2], stuff_classes=names[2:])
        metric.process({}, copy.deepcopy(samples))
        scores.append(metric.evaluate(len(samples)))
        content = json.loads((tmp_path / "truth.json").read_text())
        content["categories"] = content["categories"][2:] + content["categories"][:2]
        (tmp_path / "truth.json").write_text(json.dumps(content))
    assert scores[0] == pytest.approx(scores[1]) and scores[0]["coco_panoptic/PQ"] > 20


def test_absent_maps_are_named(data):
    dataset = load_config(LEAF, {"data_root": str(data)}).val_dataloader.dataset
    PanopticFormat().check(dataset, "val")
    (data / "annotations/panoptic_val2017/0001.png").unlink()
    with pytest.raises(UserError, match=r"1 of 2 maps are not in .*panoptic_val2017: 0001\.png"):
        PanopticFormat().check(dataset, "val")
    PanopticFormat().check(dataset, "test")


def test_maps_of_another_size_and_classes_that_the_data_lack(data, tmp_path):
    from PIL import Image

    from detection.panoptic_metric import FullCocoPanopticMetric

    path = data / "annotations/panoptic_val2017/0001.png"
    Image.open(path).crop((0, 0, 64, 60)).save(path)
    with pytest.raises(UserError, match=r"0001\.png has 64x60 pixels, and by .*json 64x64; allowed: the same size"):
        PanopticFormat().check(load_config(LEAF, {"data_root": str(data)}).val_dataloader.dataset, "val")

    names, _, samples = panoptic_case(tmp_path)
    metric = FullCocoPanopticMetric(ann_file=str(tmp_path / "truth.json"), seg_prefix=str(tmp_path / "maps"))
    metric.dataset_meta = dict(classes=names, thing_classes=names[:2], stuff_classes=names[2:])
    metric.process({}, copy.deepcopy(samples[:1]))
    samples[1]["pred_panoptic_seg"]["sem_seg"][0, 0, 0] = 5
    with pytest.raises(UserError, match="the model predicts class 5, counted from 0, and the data have 4 classes"):
        metric.process({}, samples[1:])


def test_maps_are_found_by_the_names_in_the_file(data, tmp_path):
    """Images may lie in folders and have any suffix, and maps may have names of their own."""
    from PIL import Image

    from detection import TASK
    from detection.panoptic_metric import FullCocoPanopticMetric

    path = data / "annotations/panoptic_train2017.json"
    content = json.loads(path.read_text())
    (data / "train2017/a").mkdir()
    for image, annotation in zip(content["images"], content["annotations"], strict=True):
        (data / "train2017" / image["file_name"]).rename(data / f"train2017/a/{image['id']}.jpeg")
        (data / "annotations/panoptic_train2017" / annotation["file_name"]).rename(
            data / f"annotations/panoptic_train2017/map{image['id']}.png"
        )
        image["file_name"], annotation["file_name"] = f"a/{image['id']}.jpeg", f"map{image['id']}.png"
    path.write_text(json.dumps(content))
    cfg = load_config(LEAF, slim(data))
    TASK.check_data(cfg, ("train",))
    dataset = TASK.build_dataset(cfg, "train")
    sample = dataset[0]["data_samples"]
    assert sample.gt_sem_seg.sem_seg.unique().tolist() == [0, 1, 2, 255]

    names = ("box", "disc", "background")
    found = [dict(img_id=one["id"], img_path=f"{data}/train2017/{one['file_name']}") for one in content["images"]]
    for i, one in enumerate(found):  # predictions that are the ground truth
        colours = np.array(Image.open(data / f"annotations/panoptic_train2017/map{i + 1}.png"))
        labels = {0: 3, 1: 1000, 2: 1001, 300: 2}
        ids = np.vectorize(labels.get)(rgb2id(colours))
        one["pred_panoptic_seg"] = dict(sem_seg=torch.from_numpy(ids)[None])
    metric = FullCocoPanopticMetric(ann_file=str(path), seg_prefix=str(data / "annotations/panoptic_train2017"))
    metric.dataset_meta = dict(classes=names, thing_classes=names[:2], stuff_classes=names[2:])
    metric.process({}, found)
    assert metric.evaluate(len(found))["coco_panoptic/PQ"] == pytest.approx(100)


def test_broken_maps_are_named_when_they_are_loaded_and_scored(data, tmp_path):
    from PIL import Image

    from detection import TASK
    from detection.panoptic_metric import FullCocoPanopticMetric

    dataset = TASK.build_dataset(load_config(LEAF, slim(data)), "train")
    names, _, samples = panoptic_case(tmp_path)
    metric = FullCocoPanopticMetric(ann_file=str(tmp_path / "truth.json"), seg_prefix=str(tmp_path / "maps"))
    metric.dataset_meta = dict(classes=names, thing_classes=names[:2], stuff_classes=names[2:])
    scored = tmp_path / "maps" / json.loads((tmp_path / "truth.json").read_text())["annotations"][0]["file_name"]
    loaded = data / "annotations/panoptic_train2017/0000.png"
    for path, read in (
        (loaded, lambda: dataset[0]),
        (scored, lambda: metric.process({}, copy.deepcopy(samples[:1]))),
    ):
        read()
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(UserError, match=f"map cannot be read to its end: {path}"):
            read()
        path.write_bytes(whole)
        Image.open(path).crop((0, 0, 40, 40)).save(path)
        with pytest.raises(UserError, match=f"{path} has 40x40 pixels, and by its image "):
            read()


def test_a_choice_of_classes_is_refused(data):
    with pytest.raises(
        UserError, match=r"classes=.box.: a panoptic data set takes all categories; allowed: classes=None"
    ):
        load_config(LEAF, {"data_root": str(data), "classes": ["box"]})

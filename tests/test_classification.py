"""The classifier: shapes, loss, weights with a head, the images from file to network, and the accuracy."""

import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate
from PIL import Image

from backbones import UserError, create_backbone
from classification import TASK, Classifier, create_classifier
from classification.data import ImageFolder
from classification.metrics import Accuracy
from classification.model import BatchPreprocessor
from classification.samplers import RepeatAugmentation
from ziggurat.engine.config import load_config

RECIPE = "classification/configs/van/van_b0_8xb128_in1k.py"


@pytest.fixture(scope="module")
def clf():
    torch.manual_seed(0)
    return create_classifier("van_b0", num_classes=7).eval()


@pytest.fixture
def images(tmp_path):
    pixels = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("ant", "bee", "cow"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(2):
                image = Image.fromarray(pixels.integers(0, 256, (40, 50, 3), np.uint8))
                image.save(tmp_path / split / name / f"{i}.png")
    return tmp_path


def test_logits_are_the_head_over_the_mean_of_the_last_map(clf):
    x = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        maps = create_backbone("van_b0")
        maps.load_state_dict(
            clf.backbone.state_dict(), strict=False
        )  # the classifier builds norms of the last map only
        last = maps.eval()(x)[-1]
        expected = last.flatten(2).mean(2) @ clf.head.fc.weight.T + clf.head.fc.bias
        torch.testing.assert_close(clf(x), expected)


def test_predictions_are_probabilities(clf):
    with torch.no_grad():
        predictions = clf(torch.randn(3, 3, 32, 32), torch.tensor([0, 1, 2]), mode="predict")
    assert [p["label"] for p in predictions] == [0, 1, 2]
    for p in predictions:
        assert p["scores"].shape == (7,) and p["scores"].sum() == pytest.approx(1)
        assert p["pred_label"] == p["scores"].argmax()


def test_smoothed_loss_against_its_definition(clf):
    x, labels, smoothing = torch.randn(4, 3, 32, 32), torch.tensor([0, 3, 6, 3]), 0.1
    smoothed = Classifier(clf.backbone, 7, label_smoothing=smoothing).eval()
    with torch.no_grad():
        log_p = smoothed(x).log_softmax(1)
        target = torch.full((4, 7), smoothing / 7)
        target[range(4), labels] += 1 - smoothing
        torch.testing.assert_close(smoothed(x, labels, "loss")["loss"], -(target * log_p).sum(1).mean())


def test_mixup_mixes_images_and_targets_alike(clf):
    mixed = Classifier(clf.backbone, 7, label_smoothing=0.1, mixup=dict(mixup_alpha=0.8)).eval()
    seen = {}
    mixed.backbone.register_forward_pre_hook(lambda module, inputs: seen.update(x=inputs[0]))
    x, labels = torch.randn(2, 3, 32, 32), torch.tensor([1, 5])
    before = x.clone()
    with torch.no_grad():
        loss = mixed.loss(x, labels)
        share = ((seen["x"][0] - before[1]) / (before[0] - before[1])).mean().item()
        log_p = mixed(seen["x"]).log_softmax(1)
    one_hot = torch.nn.functional.one_hot(labels, 7) * 0.9 + 0.1 / 7
    target = share * one_hot + (1 - share) * one_hot.flip(0)
    assert loss.item() == pytest.approx(-(target * log_p).sum(1).mean().item(), rel=1e-4)
    with pytest.raises(UserError, match="even batch_size"):
        mixed.loss(torch.randn(3, 3, 32, 32), torch.tensor([1, 5, 0]))


def test_pretrained_brings_the_head_unless_the_classes_differ(clf, tmp_path):
    torch.save({"state_dict": clf.state_dict()}, tmp_path / "clf.pth")
    again = create_classifier("van_b0", num_classes=7, pretrained=tmp_path / "clf.pth")
    for name, value in clf.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)
    with pytest.warns(UserWarning, match="head.fc.weight"):
        other = create_classifier("van_b0", num_classes=9, pretrained=tmp_path / "clf.pth")
    torch.testing.assert_close(other.backbone.stem.conv.weight, clf.backbone.stem.conv.weight)
    with pytest.raises(UserError, match="van_b1"):
        create_classifier("van_b1", num_classes=7, pretrained=tmp_path / "clf.pth")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(arch="van_b99"), "unknown arch 'van_b99'"),
        (dict(arch="van_b0", num_classes=0), "num_classes is 0"),
        (dict(arch="van_b0", in_chans=0), "in_chans is 0"),
        (dict(arch="van_b0", out_indices=(0,)), "out_indices"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        create_classifier(**arguments)


def test_preprocessing_of_a_batch():
    batch = {
        "inputs": torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1),
        "data_samples": torch.tensor([4]),
    }
    out = BatchPreprocessor(mean=(0.5, 0.2, 0.5), std=(0.5, 0.1, 0.25))(batch)
    torch.testing.assert_close(out["inputs"].flatten(), torch.tensor([-1.0, 0.0, 2.0]))
    assert out["data_samples"].tolist() == [4]


def test_random_erasing_is_for_training_only():
    erasing = BatchPreprocessor(random_erasing=dict(probability=1.0, mode="pixel", max_count=1))
    batch = {"inputs": torch.full((2, 3, 32, 32), 255, dtype=torch.uint8)}
    assert bool((erasing(batch)["inputs"] == 1).all())
    changed = (erasing(batch, training=True)["inputs"] != 1).float().mean().item()
    assert 0.01 < changed < 0.5


def test_evaluation_resizes_the_short_side_and_crops_the_centre(tmp_path):
    (tmp_path / "val" / "a").mkdir(parents=True)
    original = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8))
    original.save(tmp_path / "val/a/x.png")
    data = ImageFolder(tmp_path, "val", dict(is_training=False, input_size=224, crop_pct=0.9))
    resized = original.resize((330, 248), Image.Resampling.BICUBIC)  # 248 = 224 / 0.9, rounded down as the authors do
    expected = np.asarray(resized.crop((53, 12, 277, 236))).transpose(2, 0, 1)
    item = data[0]["inputs"]
    assert item.dtype == torch.uint8
    np.testing.assert_array_equal(item.numpy(), expected)


@pytest.mark.parametrize("in_memory", [False, True])
def test_items_and_their_classes(images, in_memory):
    data = ImageFolder(images, "train", dict(is_training=True, input_size=32), in_memory=in_memory)
    assert data.metainfo == {"classes": ("ant", "bee", "cow")}
    assert [data[i]["data_samples"] for i in range(len(data))] == [0, 0, 1, 1, 2, 2]
    batch = default_collate([data[0], data[5]])
    assert batch["inputs"].shape == (2, 3, 32, 32) and batch["data_samples"].tolist() == [0, 2]
    swapped = ImageFolder(images, "train", dict(input_size=32), classes=["cow", "bee", "ant"])
    assert swapped[0]["data_samples"] == 0 and "cow" in swapped.samples[0][0]


def test_repeated_augmentation_shows_fewer_images_more_often():
    sampler = RepeatAugmentation(list(range(600)), num_repeats=3)
    seen = list(sampler)
    assert len(seen) == len(sampler) == 512
    assert {seen.count(i) for i in set(seen[:-3])} <= {2, 3}


def test_bad_data_is_named(images):
    cfg = load_config(RECIPE, {"data_root": str(images)})
    assert cfg.model.num_classes == 3 and cfg.val_dataloader.dataset.classes == ["ant", "bee", "cow"]
    TASK.check_data(cfg)

    (images / "val" / "dodo").mkdir()
    with pytest.raises(UserError, match="val has classes that training does not know: dodo"):
        TASK.check_data(cfg)
    for file in (images / "train" / "bee").iterdir():
        file.unlink()
    with pytest.raises(UserError, match="no images for 1 of 3 classes: bee"):
        TASK.check_data(cfg, ("train",))
    with pytest.raises(UserError, match=r"no data folder .*nowhere.train"):
        TASK.check_data(load_config(RECIPE, {"data_root": str(images / "nowhere")}))

    cut = images / "train" / "ant" / "0.png"
    cut.write_bytes(cut.read_bytes()[:60])
    with pytest.raises(UserError, match=r"ant.0\.png"):
        ImageFolder(images, "train", dict(input_size=32))[0]


def test_accuracy_counts_every_image_once():
    scores = torch.eye(10)
    metric = Accuracy()
    # Right, wrong but among the best five, wrong altogether; then a copy that pads the last batch.
    best_five = torch.tensor([0.3, 0.25, 0.2, 0.15, 0.1, 0, 0, 0, 0, 0])
    samples = [
        dict(scores=scores[3], label=3),
        dict(scores=best_five, label=4),
        dict(scores=best_five, label=9),
        dict(scores=scores[3], label=3),
    ]
    metric.process(None, samples[:2])
    metric.process(None, samples[2:])
    result = metric.evaluate(size=3)
    assert result == {"top1": pytest.approx(100 / 3), "top5": pytest.approx(200 / 3)}


@pytest.mark.parametrize(("classes", "told"), [(1, False), (5, False), (6, True)])
def test_top_5_is_told_of_more_than_five_classes(classes, told):
    metric = Accuracy()
    metric.process(None, [dict(scores=torch.rand(classes), label=0)])
    assert ("top5" in metric.evaluate(size=1)) == told


def test_accuracy_with_fewer_classes_than_k():
    metric = Accuracy()
    metric.process(None, [dict(scores=torch.tensor([0.9, 0.1]), label=1)])
    assert metric.evaluate(size=1) == {"top1": 0.0}  # among the best five of two classes is every answer


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(mixup=dict(mode="foo")), r"unknown model\.mixup\.mode 'foo'.*batch"),
        (dict(mixup=dict(mixup_alpha=-1)), r"model\.mixup\.mixup_alpha is -1; allowed: 0 and up"),
        (dict(mixup=dict(cutmix_alpha="x")), r"model\.mixup\.cutmix_alpha is 'x'; allowed: 0 and up"),
        (dict(mixup=dict(prob=2)), r"model\.mixup\.prob is 2; allowed: 0 to 1"),
        (dict(mixup=1), r"model\.mixup is 1; allowed: None, or a dict"),
        (dict(label_smoothing=1), r"model\.label_smoothing is 1; allowed: 0 to below 1"),
        (dict(label_smoothing=-0.1), r"model\.label_smoothing is -0\.1; allowed: 0 to below 1"),
    ],
)
def test_bad_augmentation_of_batches_is_named(arguments, message):
    with torch.device("meta"), pytest.raises(UserError, match=message):
        Classifier(dict(type="Backbone", arch="van_b0"), num_classes=3, **arguments)


@pytest.mark.parametrize(
    ("erasing", "message"),
    [
        (dict(probability=3), r"random_erasing\.probability is 3; allowed: 0 to 1"),
        (dict(mode="foo"), r"unknown model\.data_preprocessor\.random_erasing\.mode 'foo'"),
        (dict(max_count=0), r"random_erasing\.max_count is 0; allowed: integers from 1 up"),
    ],
)
def test_bad_erasing_is_named(erasing, message):
    with pytest.raises(UserError, match=message):
        BatchPreprocessor(random_erasing=erasing)


def test_bad_transforms_and_metrics_are_named(images):
    with pytest.raises(UserError, match=r"unknown transform\.interpolation 'foo'.*bicubic"):
        ImageFolder(images, "train", dict(interpolation="foo"))
    with pytest.raises(UserError, match=r"transform .*auto_augment.*foo"):
        ImageFolder(images, "train", dict(is_training=True, auto_augment="foo"))
    with pytest.raises(UserError, match=r"val_evaluator\.topk is 0; allowed: integers from 1 up"):
        Accuracy(topk=(1, 0))

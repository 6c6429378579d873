"""A student learns a frozen teacher's features on images without labels, and its file loads in every task."""

import json

import convert_weights
import distill
import distillation
import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from conftest import ROOT
from helpers import SMALL, run
from mmengine.registry import MODELS
from PIL import Image

from backbones import VAN, UserError, create_backbone, load_weights
from backbones.weights import own_meta, read_checkpoint, read_own_meta, save_safely
from classification import TASK
from classification.distill import NAME, Distiller, UnlabelledImages, build_teacher
from classification.distill.model import dense_loss, feature_loss
from classification.model import BatchPreprocessor
from ziggurat.engine import Predictor
from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_training

CONFIG = "classification/configs/demo/van_b0_distill_digits.py"
VIT = dict(name="timm:test_vit", weights=False, input_size=32)
PREPROCESSOR = dict(type="BatchPreprocessor", mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


@pytest.fixture(scope="module", autouse=True)
def shallow():
    """VAN-B0 with one block a stage, in every test here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VAN, "ARCHS", VAN.ARCHS | {"van_b0": VAN.ARCHS["van_b0"]._replace(depths=(1, 1, 1, 1))})
        yield


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Eight images of 40x36 pixels at several depths."""
    root, pixels = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for i in range(8):
        folder = root / ("deep/" * (i % 3))
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.integers(0, 256, (36, 40, 3), np.uint8)).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory):
    """A checkpoint of a VAN-B0 of ours, with statistics of its own."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    torch.manual_seed(3)
    net = create_backbone("van_b0")
    meta = {"ziggurat": own_meta(net, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))}
    save_safely(net.state_dict() | {"meta": meta}, path)
    return path


def distiller(student, teacher, **options):
    model = Distiller(student, teacher, **{"data_preprocessor": PREPROCESSOR, **options})
    model.init_weights()
    return model


def option_values(images, iters=2, **options):
    """Options that make the demo's config a run of two steps on eight images."""
    return {
        "data_root": str(images),
        "train_cfg": dict(_delete_=True, type="IterBasedTrainLoop", max_iters=iters, val_interval=100),
        "train_dataloader.batch_size": 2,
        "auto_scale_lr.enable": False,
        "train_dataloader.num_workers": 0,
        "train_dataloader.sampler": dict(type="InfiniteSampler", shuffle=False),
        "train_dataloader.dataset.crops.large": dict(_delete_=True, number=1, input_size=32, no_aug=True),
        "param_scheduler": [dict(type="CosineAnnealingLR", T_max=4, begin=0, end=4, eta_min=1e-6, by_epoch=False)],
        "default_hooks.checkpoint": dict(type="CheckpointHook", by_epoch=False, interval=2),
        "model.mix": False,
        **options,
    }


@pytest.fixture(scope="module")
def trained(images, teacher_file, tmp_path_factory):
    """The work dir after two steps."""
    work_dir = tmp_path_factory.mktemp("trained")
    cfg = load_config(CONFIG, option_values(images, **{"model.teacher.name": str(teacher_file)}))
    build_training(cfg, work_dir, device="cpu").train()
    return work_dir


# --- what is learned


@pytest.mark.parametrize("arch", SMALL)
def test_every_family_learns_from_timm_and_from_our_own(arch, tiny, teacher_file):
    for teacher in (VIT, dict(name="van_b0", weights=False)):
        model = distiller(tiny(arch, out_indices=(-1,)), teacher)
        before = [value.clone() for value in model.teacher.net.state_dict().values()]
        losses = model([torch.randn(2, 3, 64, 64)], mode="loss")
        sum(losses.values()).backward()
        assert set(losses) == {"loss_pooled", "loss_dense"}
        for name, param in model.named_parameters():
            assert param.grad is not None and param.grad.isfinite().all(), name
        after = model.teacher.net.state_dict().values()
        assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
        assert not any(param.requires_grad for param in model.teacher.net.parameters())


def test_the_loss_falls():
    model = distiller(create_backbone("van_b0", out_indices=(-1,)), VIT, mix=False)
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3)
    crops, seen = [torch.randn(4, 3, 32, 32)], []
    for _ in range(8):
        loss = sum(model(crops, mode="loss").values())
        seen.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert seen[-1] < 0.8 * seen[0]


def test_the_loss_against_its_definition():
    student, teacher = torch.randn(3, 5), 7 + 9 * torch.randn(3, 5)
    expected = 0.0
    for ours, theirs in zip(student.numpy().astype(float), teacher.numpy().astype(float), strict=True):
        target = (theirs - theirs.mean()) / np.sqrt(theirs.var() + 1e-5)
        cosine = (ours * target).sum() / np.sqrt((ours**2).sum() * (target**2).sum())
        expected += (1 - cosine + ((ours - target) ** 2).mean()) / 3
    assert feature_loss(student, teacher).item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(feature_loss(student, 3 * teacher - 1), feature_loss(student, teacher))


def test_equal_maps_have_no_loss():
    teacher = 5 * torch.randn(2, 6, 4, 3)
    same = F.layer_norm(teacher.movedim(1, -1), (6,)).movedim(-1, 1)
    assert dense_loss(same, teacher).item() == pytest.approx(0, abs=1e-6)
    assert dense_loss(same.roll(1, dims=3), teacher).item() > 0.5
    flat = same[:, :, :1, :1].expand(-1, -1, 2, 2)  # a constant map of another size stays itself when resized
    assert dense_loss(flat, teacher[:, :, :1, :1].expand(-1, -1, 4, 4)).item() == pytest.approx(0, abs=1e-6)


def test_crops_count_alike_whatever_their_size():
    model = distiller(create_backbone("van_b0", out_indices=(-1,)), VIT, mix=False).eval()
    large, small = torch.randn(3, 2, 3, 48, 48), torch.randn(1, 2, 3, 32, 32)
    with torch.no_grad():
        each = [model([crop], mode="loss")["loss_dense"] for crop in (*large, *small)]
        all_of_them = model([*large, *small], mode="loss")["loss_dense"]
    torch.testing.assert_close(all_of_them, torch.stack(each).mean())


def test_mixed_images_are_the_same_for_both(monkeypatch):
    model = distiller(create_backbone("van_b0", out_indices=(-1,)), VIT, mix=True)
    seen = {}
    model.backbone.register_forward_pre_hook(lambda module, inputs: seen.update(student=inputs[0]))
    teacher = model.teacher
    monkeypatch.setattr(model, "teacher", lambda pixels: seen.update(teacher=pixels) or teacher(pixels))
    pixels = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(PREPROCESSOR[name]).view(3, 1, 1) for name in ("mean", "std"))
    images = (pixels - mean) / std
    for seed in range(9):
        torch.manual_seed(seed)
        model([images], mode="loss")
        torch.testing.assert_close(seen["student"] * std + mean, seen["teacher"])
        if not torch.allclose(seen["teacher"], pixels, atol=1e-5):
            break
    share = (seen["teacher"][0] - pixels[1]) / (pixels[0] - pixels[1])
    assert 0 < share.median() < 1
    torch.testing.assert_close(seen["teacher"][0], torch.lerp(pixels[1], pixels[0], share.median().item()))


def test_without_a_dense_loss_there_is_no_head_for_it():
    model = distiller(create_backbone("van_b0", out_indices=(-1,)), VIT, dense_weight=0)
    assert set(model([torch.randn(2, 3, 32, 32)], mode="loss")) == {"loss_pooled"}
    assert not any("dense" in name for name, _ in model.named_parameters())


# --- teachers


@pytest.mark.parametrize("name", ["test_vit", "test_vit3", "test_vit_relpos", "test_convnext", "test_mambaout"])
def test_features_of_timms_models(name):
    """The map is that of timm's own ``forward_intermediates``: without prefix tokens, channels first."""
    teacher = build_teacher(name, weights=False)
    teacher.load()
    net = teacher.net
    images = torch.rand(2, 3, 160, 160)
    config = timm.data.resolve_model_data_config(net)
    mean, std = (torch.tensor(config[word]).view(3, 1, 1) for word in ("mean", "std"))
    pooled, dense = teacher(images)
    with torch.no_grad():
        _, maps = net.forward_intermediates((images - mean) / std, indices=1, norm=True, output_fmt="NCHW")
        logits = net((images - mean) / std)
    if dense.shape == maps[-1].shape:
        torch.testing.assert_close(dense, maps[-1])
    assert dense.shape == (2, teacher.dense_channels, *maps[-1].shape[2:])
    assert pooled.shape == (2, teacher.pooled_channels)
    with torch.no_grad():
        torch.testing.assert_close(net.get_classifier()(pooled), logits)


def test_the_teacher_sees_images_of_its_size_and_statistics():
    teacher = build_teacher("timm:test_vit", weights=False)
    assert teacher.input_size == (160, 160)
    assert teacher(torch.rand(1, 3, 48, 48))[1].shape[2:] == (10, 10)
    text = str(teacher)
    assert "timm:test_vit, weights: random" in text and "160x160" in text and "mean (0.5, 0.5, 0.5)" in text
    smaller = build_teacher("timm:test_vit", weights=False, input_size=64)
    assert smaller(torch.rand(1, 3, 48, 48))[1].shape[2:] == (4, 4)


def test_our_own_teacher_is_its_backbone_with_its_statistics(teacher_file):
    teacher = build_teacher(str(teacher_file))
    images = torch.rand(2, 3, 64, 32)
    pooled, dense = teacher(images)
    net = create_backbone(pretrained=teacher_file).eval()
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.4, 0.5, 0.6])
    with torch.no_grad():
        last = net((images - mean.view(3, 1, 1)) / std.view(3, 1, 1))[-1]
    torch.testing.assert_close(dense, last)
    torch.testing.assert_close(pooled, last.flatten(2).mean(2))
    resized = build_teacher("van_b0", weights=str(teacher_file), input_size=96)
    assert resized(images)[1].shape[2:] == (3, 3)


def test_a_file_of_timms_weights(tmp_path):
    torch.manual_seed(5)
    net = timm.create_model("test_vit")
    torch.save(net.state_dict(), tmp_path / "vit.pth")
    teacher = build_teacher("timm:test_vit", weights=str(tmp_path / "vit.pth"))
    teacher.load()
    for name, value in net.state_dict().items():
        torch.testing.assert_close(teacher.net.state_dict()[name], value)
    torch.save({"other": torch.zeros(1)}, tmp_path / "vit.pth")
    with pytest.raises(UserError, match="timm:test_vit cannot be used: RuntimeError"):
        teacher.load()


def test_a_random_teacher_is_the_same_everywhere():
    torch.manual_seed(1)
    one = build_teacher("test_resnet", weights=False)
    one.load()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    other = build_teacher("test_resnet", weights=False)
    other.load()
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.net.parameters(), other.net.parameters(), strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(name="vit_smal_patch14_dinov2"), "unknown teacher 'vit_smal_patch14_dinov2'.*vit_small_patch14_dinov2"),
        (dict(name="timm:van_b9"), "unknown teacher 'timm:van_b9'"),
        (dict(name="nowhere.pth"), "no such checkpoint file of a teacher: nowhere.pth"),
        (dict(name="van_b0", weights="nowhere.pth"), "no such checkpoint file of a teacher: nowhere.pth"),
        (dict(name="van_b0", weights=3), "the teacher's weights are 3"),
        (dict(name="van_b0.in1k", weights=False), "brings its weights"),
        (dict(name=None), "the teacher is None"),
        (dict(name="test_vit", input_size=16), "input_size is 16; allowed: integers from 32"),
        (dict(name="coat_lite_tiny", weights=False), "coat_lite_tiny gives no feature map"),
    ],
)
def test_wrong_teachers_are_named(arguments, message):
    with pytest.raises(UserError, match=message) as error:
        build_teacher(**arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("options", [dict(dense_weight=-1), dict(dense_weight="all"), dict(mix=1)])
def test_wrong_options_are_named(options):
    with pytest.raises(UserError, match=next(iter(options))):
        distiller(create_backbone("van_b0"), VIT, **options)


# --- images


def test_crops_of_an_image(images):
    crops = dict(large=dict(number=2, input_size=36), small=dict(number=3, input_size=32), none=dict(number=0))
    data = UnlabelledImages(str(images), crops)
    assert len(data) == 8 and list(data[0]) == ["inputs"]
    assert [tuple(crop.shape) for crop in data[0]["inputs"]] == 2 * [(3, 36, 36)] + 3 * [(3, 32, 32)]
    assert all(crop.dtype == torch.uint8 for crop in data[0]["inputs"])
    assert not torch.equal(*data[0]["inputs"][:2])
    one = UnlabelledImages(str(images), dict(large=dict(number=1, input_size=32)))
    assert len(one[7]["inputs"]) == 1
    assert TASK.draw_sample(data[0], data.metainfo).width > 5 * 32


def test_wrong_images_are_named(images, tmp_path):
    crops = dict(large=dict(number=1, input_size=40))
    with pytest.raises(UserError, match=r"\.png is 40x36 pixels; allowed: sides of 40"):
        UnlabelledImages(str(images), crops)[0]
    skipping = UnlabelledImages(str(images), dict(large=dict(number=1, input_size=32)), max_unreadable=0.2)
    skipping.min_side = 40  # every image is too small, and one of eight may be
    with pytest.raises(UserError, match=r"2 of 8 training images cannot be read.*allows 1.*40x36 pixels"):
        skipping[0]
    assert UnlabelledImages(str(images), crops, min_side=32)[0]["inputs"][0].shape == (3, 40, 40)
    for wrong in (None, {}, dict(large=dict(number=0)), dict(large=3), dict(large=dict(input_size=32))):
        with pytest.raises(UserError, match="crops"):
            UnlabelledImages(str(images), wrong)
    with pytest.raises(UserError, match="no images in"):
        TASK.check_data(load_config(CONFIG, option_values(tmp_path)))
    with pytest.raises(UserError, match=r"no data folder .*nowhere"):
        TASK.check_data(load_config(CONFIG, option_values(tmp_path / "nowhere")))


def test_a_list_of_crops_is_normalised_like_one_batch():
    pixels = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    preprocess = BatchPreprocessor(PREPROCESSOR["mean"], PREPROCESSOR["std"])
    one, two = preprocess({"inputs": [pixels, pixels[:, :, :4]]})["inputs"]
    torch.testing.assert_close(one, preprocess({"inputs": pixels})["inputs"])
    assert two.shape == (2, 3, 4, 8)


# --- the run and its result


def test_the_checkpoint_holds_the_student_alone(trained):
    content = read_checkpoint(trained / "iter_2.pth")
    net = create_backbone("van_b0", out_indices=(-1,))
    heads = {f"{head}_head.{part}" for head in ("pooled", "dense") for part in ("weight", "bias")}
    assert set(content["state_dict"]) == {f"backbone.{name}" for name in net.state_dict()} | heads
    assert content["meta"]["ziggurat"]["task"] == "classification"


def test_resuming_is_the_uninterrupted_run(images, teacher_file, tmp_path):
    runs = []
    changed = {"model.teacher.name": str(teacher_file), "default_hooks.checkpoint.max_keep_ckpts": 2}
    for resume in (None, tmp_path / "run0/iter_2.pth"):
        cfg = load_config(CONFIG, option_values(images, iters=4, **changed))
        runs.append(build_training(cfg, tmp_path / f"run{len(runs)}", resume=resume, device="cpu"))
        runs[-1].train()
    straight, resumed = runs
    for name, value in straight.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], value, rtol=0, atol=0, msg=name)


def test_a_distillation_predicts_nothing(trained):
    with pytest.raises(UserError, match="is of a run without test data"):
        Predictor(trained / "iter_2.pth")
    with pytest.raises(UserError, match="carries no config"):
        Predictor(trained / NAME)


def test_the_page_is_made_of_the_figures():
    figures = json.loads((ROOT / "docs/distillation.json").read_text())
    assert distillation.page(figures) == (ROOT / "docs/distillation.md").read_text()
    found = figures["results"]
    random, student = found["random weights"], found["distilled without labels"]
    assert student["knn_top1"] > random["knn_top1"]
    for name in distillation.METRICS:
        assert student[name].keys() == random[name].keys()
        assert all(student[name][step] > random[name][step] for step in student[name])


def test_halves_of_a_batch_have_the_mean_of_its_losses():
    """So several processes, whose gradients are averaged, train as one."""
    model = distiller(create_backbone("van_b0", out_indices=(-1,)), VIT, mix=False).eval()
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        whole, *halves = (model([part], mode="loss") for part in (images, *images.split(2)))
    for name, value in whole.items():
        torch.testing.assert_close(value, (halves[0][name] + halves[1][name]) / 2)


def test_the_file_loads_in_every_task(trained):
    file = trained / NAME
    own = read_own_meta(read_checkpoint(file))
    assert own["backbone"]["arch"] == "van_b0" and own["mean"] == [0.5, 0.5, 0.5]
    assert own["task"] is own["classes"] is own["config"] is None
    state = read_checkpoint(trained / "iter_2.pth")["state_dict"]
    net = create_backbone(pretrained=file)
    assert net.out_indices == (0, 1, 2, 3)
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, state[f"backbone.{name}"], rtol=0, atol=0)
    for config in (
        "classification/configs/demo/van_b0_digits.py",
        "detection/configs/demo/mask_rcnn_van_b0_digits.py",
        "segmentation/configs/demo/upernet_van_b0_digits.py",
    ):
        backbone = load_config(config, {"model.backbone.pretrained": str(file)}).model.backbone
        model = MODELS.build(backbone)
        model.init_weights()
        assert len(model.load_report.loaded) == len(model.state_dict()) and not model.load_report.unexpected
    assert not load_weights(create_backbone("van_b0"), trained / "iter_2.pth").missing


@pytest.mark.parametrize("arch", SMALL)
def test_a_students_backbone_loads_for_dense_tasks(arch, tiny, tmp_path):
    """Without the heads, and without the output norms that HorNet has in dense tasks alone."""
    model = Distiller(tiny(arch, out_indices=(-1,)), VIT, data_preprocessor=PREPROCESSOR)
    save_safely({"state_dict": model.state_dict(), "meta": {}}, tmp_path / "run.pth")
    net = create_backbone(arch, pretrained=tmp_path / "run.pth")
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[f"backbone.{name}"], rtol=0, atol=0)


def test_the_tool(images, teacher_file, tmp_path, monkeypatch, capsys):
    options = [
        f"{key}={json.dumps(value) if isinstance(value, dict | list | bool) else value}"
        for key, value in option_values(images).items()
        if key != "data_root"
    ]
    options = [option.replace("true", "True").replace("false", "False") for option in options]
    argv = ["--student", "van_b0", "--teacher", teacher_file, "--data", images, "--config", CONFIG]
    argv += ["--work-dir", tmp_path / "run", "--device", "cpu", "--cfg-options", *options]
    status, out, err = run(distill, argv, monkeypatch, capsys)
    assert status == 0, err
    assert out.splitlines()[-1] == f"backbone: {tmp_path / 'run' / NAME}"
    status, _, err = run(
        convert_weights, [tmp_path / "run/iter_2.pth", tmp_path / "b.safetensors"], monkeypatch, capsys
    )
    assert status == 0, err
    one, other = (create_backbone(pretrained=file) for file in (tmp_path / "run" / NAME, tmp_path / "b.safetensors"))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"--student": None}, "the following arguments are required: --student"),
        ({"--student": "van_b9"}, "unknown arch 'van_b9'"),
        ({"--teacher": "vam_b0"}, "unknown teacher 'vam_b0'; nearest: van_b0"),
        ({"--data": "nowhere"}, "no data folder nowhere"),
        ({"--config": "classification/configs/demo/van_b0_digits.py"}, "is no distillation"),
        ({"--teacher-size": "8"}, "input_size is 8"),
    ],
)
def test_mistakes_are_one_line(changed, message, images, teacher_file, tmp_path, monkeypatch, capsys):
    given = {"--student": "van_b0", "--teacher": str(teacher_file), "--data": str(images), "--config": CONFIG} | changed
    argv = [word for key, value in given.items() if value is not None for word in (key, value)]
    status, _, err = run(distill, [*argv, "--work-dir", tmp_path / "run"], monkeypatch, capsys)
    assert status == 2 and message in err and len(err.strip().splitlines()) == 1, err

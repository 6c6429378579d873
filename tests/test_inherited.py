"""Names and roots that a config or an option sets beside its bases have an effect, or one line says what has."""

from pathlib import Path

import pytest

from backbones import UserError
from ziggurat.engine.config import load_config

ROOT = Path(__file__).resolve().parent.parent
OF_MMDET = f"_base_ = {str(ROOT / 'docs/examples/mask_rcnn_of_mmdet.py')!r}\n"
DIRECTLY_OF_MMDET = """_base_ = "mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py"
custom_imports = dict(imports=["detection"])
"""
OURS = """model = dict(
    backbone=dict(_delete_=True, type="VAN", arch="van_b0"), neck=dict(in_channels=[32, 64, 160, 256]))
"""
DEMO = ROOT / "segmentation/configs/demo/semantic_fpn_van_b0_digits.py"
MASK_RCNN_3X = ROOT / "detection/configs/van/mask_rcnn_van_b2_fpn_3x_coco.py"
MM_STYLE = """custom_imports = dict(imports=["classification"])
data_root = "data/set/"
size = (64, 64)
kind = "Old"
pipeline = [dict(type="Resize", scale=size)]
train_dataloader = dict(num_workers=2, dataset=dict(
    type=kind, data_root=data_root, also=["data/set/a", "data/setter/b"], pipeline=pipeline))
val_evaluator = dict(ann_file=data_root + "val.json", out="data/set/out")
work_dir = "data/set/run"
"""


@pytest.fixture
def child(tmp_path):
    """A function that writes a config file beside mm_style.py."""
    (tmp_path / "mm_style.py").write_text(MM_STYLE)

    def write(text, name="child.py"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def roots_of(cfg):
    dataset = cfg.train_dataloader.dataset
    return [cfg.data_root, dataset.data_root, *dataset.also, cfg.val_evaluator.ann_file, cfg.work_dir]


def test_a_childs_data_root_moves_the_bases_paths(child):
    by_option = load_config(child('_base_ = "mm_style.py"\n'), ["data_root=new"])
    by_name = load_config(child('_base_ = "mm_style.py"\ndata_root = "new"\n'))
    assert roots_of(by_name) == roots_of(by_option)
    assert roots_of(by_name) == ["new", "new", "new/a", "data/setter/b", "new/val.json", "data/set/run"]


@pytest.mark.parametrize("own", ["", 'data_root = "newer"\n'])
def test_the_last_data_root_counts_over_several_files(child, own):
    child('_base_ = "mm_style.py"\ndata_root = "new"\n', "between.py")
    last = "newer" if own else "new"
    cfg = load_config(child(f'_base_ = ["between.py"]\n{own}'))
    assert roots_of(cfg) == [last, last, f"{last}/a", "data/setter/b", f"{last}/val.json", "data/set/run"]


def test_json_files_inherit_as_python_files_do(child):
    by_name = load_config(child('{"_base_": "mm_style.py", "data_root": "new"}', "child.json"))
    assert roots_of(by_name)[:3] == ["new", "new", "new/a"]
    with pytest.raises(UserError, match=r"kind = ... changes nothing.*set train_dataloader.dataset.type"):
        load_config(child('{"_base_": "mm_style.py", "kind": "New"}', "child.json"))
    child(
        '{"custom_imports": {"imports": ["classification"]}, "data_root": "a", "val_evaluator": {"x": "a/b"}}', "b.json"
    )
    assert load_config(child('_base_ = "b.json"\ndata_root = "new"\n')).val_evaluator.x == "new/b"


def test_paths_that_the_child_types_stay(child):
    text = '_base_ = "mm_style.py"\ndata_root = "data/set/part"\n'
    text += 'val_evaluator = dict(ann_file=data_root + "/own.json", out="data/set/mine")\n'
    cfg = load_config(child(text))
    assert cfg.val_evaluator == dict(ann_file="data/set/part/own.json", out="data/set/mine")
    assert cfg.train_dataloader.dataset.data_root == "data/set/part"


@pytest.mark.parametrize("base", [OF_MMDET, DIRECTLY_OF_MMDET + OURS])
def test_a_data_root_over_mmdets_configs(child, base):
    cfg = load_config(child(base + 'data_root = "mine/"\n'))
    loaders = [cfg[f"{split}_dataloader"].dataset.data_root for split in ("train", "val", "test")]
    assert {root.rstrip("/") for root in loaders} == {"mine"}
    assert cfg.val_evaluator.ann_file == "mine/annotations/instances_val2017.json"


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ('dataset_type = "CityscapesDataset"', "train_dataloader.dataset.type"),
        ('data_root = "a"\ndataset_type = "CityscapesDataset"', "train_dataloader.dataset.type"),
        ('backend_args = dict(_delete_=True, backend="petrel")', "the key that the base makes of backend_args"),
        ("train_pipeline = []", "train_dataloader.dataset.pipeline"),
    ],
)
def test_names_of_other_packages_bases(child, line, instead):
    message = rf"(dataset_type|backend_args|train_pipeline) = ... changes nothing.*set {instead}"
    with pytest.raises(UserError, match=message):
        load_config(child(DIRECTLY_OF_MMDET + line + "\n"))


def test_an_equal_number_elsewhere_is_no_effect(child):
    text = MM_STYLE.replace("num_workers=2", "num_workers=2, batch_size=size_of_batch")
    child("size_of_batch = 4\n" + text, "mm_style.py")
    with pytest.raises(UserError, match=r"size_of_batch = ... changes nothing.*set train_dataloader.batch_size"):
        load_config(child('_base_ = "mm_style.py"\nsize_of_batch = 2\n'))
    assert load_config(child('_base_ = "mm_style.py"\nsize_of_batch = 4\n')).size_of_batch == 4


@pytest.mark.parametrize("base", ['"mm_" + "style.py"', '["mm_" + "style.py"]', '["{{ fileDirname }}/mm_style.py"]'])
def test_a_base_may_be_an_expression(child, base):
    with pytest.raises(UserError, match=r"size = ... changes nothing.*set train_dataloader.dataset.pipeline.0.scale"):
        load_config(child(f"_base_ = {base}\nsize = (32, 32)\n"))


@pytest.mark.parametrize(
    ("base", "line", "instead"),
    [
        (DEMO, "loss_decode = dict(class_weight=[1.0] * 11)", "model.decode_head.loss_decode"),
        (MASK_RCNN_3X, "multi_scale = []", "train_dataloader.dataset.pipeline"),
    ],
)
def test_merged_names_say_where_they_went(child, base, line, instead):
    with pytest.raises(UserError, match=rf"changes nothing.*; set {instead}$"):
        load_config(child(f"_base_ = {str(base)!r}\n{line}\n"))


@pytest.mark.parametrize(
    ("option", "instead"),
    [
        ("train_pipeline=[]", "train_dataloader.dataset.pipeline"),
        ("train_pipeline.0.type=Foo", "train_dataloader.dataset.pipeline.0.type"),
        ("test_pipeline.1.scale=(10,10)", "val_dataloader.dataset.pipeline.1.scale"),
        ("loss_decode.class_weight=None", "model.decode_head.loss_decode.class_weight"),
    ],
)
def test_options_that_change_nothing_say_what_does(option, instead):
    with pytest.raises(UserError, match=rf"option {option.split('=')[0]}=... changes nothing.*; set {instead}$"):
        load_config(DEMO, [option])


def test_options_over_mmdets_names(child):
    for option, instead in (
        ("train_pipeline.2.scale=(666,400)", "train_dataloader.dataset.pipeline.2.scale"),
        ("test_pipeline=[]", "val_dataloader.dataset.pipeline and test_dataloader.dataset.pipeline"),
        ("dataset_type=Foo", "train_dataloader.dataset.type"),
        ("backend_args=Foo", "the key that the config makes of backend_args"),
    ):
        with pytest.raises(UserError, match="changes nothing") as caught:
            load_config(child(OF_MMDET), [option])
        assert all(word in str(caught.value) for word in instead.split(" and "))


def test_a_name_of_ones_own_may_be_an_option(child):
    assert load_config(child('_base_ = "mm_style.py"\nnote = 1\n'), ["note=2"]).note == 2

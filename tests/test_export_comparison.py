"""Exported files beside their networks: what is compared, what is refused, and networks of free sizes."""

from types import SimpleNamespace

import pytest
import small_heads
import torch
from mmseg.models.utils import Upsample
from torch import nn

from backbones import UserError, create_backbone
from backbones.export import Extent
from backbones.export.comparison import compared
from backbones.export.errors import errors_of, own_errors
from backbones.export.pooling import AveragePool, free_pools
from backbones.export.program import prepared, record
from backbones.weights import statistics
from segmentation.exported import Enlarged, exported
from ziggurat.engine.exporting import Subject, export
from ziggurat.engine.tasks import task_for


class File:
    """A file that computes what a function does."""

    format = "pt2"

    def __init__(self, run, outputs=("scores",), inputs=("image",)):
        self.run, self.description = run, SimpleNamespace(outputs=outputs, inputs=inputs)

    def __call__(self, *inputs):
        return self.run(*inputs)


class Picky(nn.Module):
    """A network for sizes that 32 divides."""

    def forward(self, x):
        return x.view(len(x), -1, 32)


def test_sizes_that_the_network_itself_does_not_take_are_left_out():
    images = [torch.randn(1, 3, *size) for size in ((32, 64), (33, 65), (64, 96))]
    found = compared(File(Picky()), Picky(), images)
    assert found.sizes == ((1, 3, 32, 64), (1, 3, 64, 96)) and found.errors == (0, 0, 0) and found.objects is None
    with pytest.raises(RuntimeError):
        compared(File(Picky()), Picky(), images[1:])
    with pytest.raises(UserError, match="PyTorch computes other values than PyTorch: max error"):
        compared(File(lambda x: Picky()(x) + (x.shape[2] > 32)), Picky(), images)


def test_a_network_that_draws_random_numbers_is_named():
    class Noisy(nn.Module):
        def forward(self, x):
            return x + torch.randn_like(x)

    with pytest.raises(UserError, match=r"^the network draws random numbers: PyTorch's own outputs differ"):
        compared(File(Noisy()), Noisy(), [torch.zeros(1, 3, 32, 32)])


def test_other_objects_are_refused():
    def found(x, shift=0.0):
        boxes = torch.tensor([[1.0, 2, 20, 30], [5, 5, 30, 30], [0, 0, 0, 0]])
        return boxes + shift, torch.tensor([0.9, 0.5, 0.0]), torch.tensor([1, 0, 0])

    class Detector(nn.Module):
        def forward(self, x):
            return found(x)

    images, outputs = [torch.zeros(1, 3, 32, 40)] * 2, ("boxes", "scores", "labels")
    net = Detector()
    net.register_parameter("weight", nn.Parameter(torch.zeros(1)))
    same = compared(File(found, outputs), net, images)
    assert same.objects == 4 and same.errors == (0, 0, 0)
    with pytest.raises(UserError, match=r"PyTorch finds other objects than PyTorch: .*; allowed: 2.0%"):
        compared(File(lambda x: found(x, 0.3), outputs), net, images)


def test_own_errors_are_those_of_several_roundings():
    """A network that chooses by the sum of an image, which is 0 but for rounding."""

    class Chooses(nn.Module):
        def forward(self, x):
            return (x.sum(dtype=torch.float64) > 1e-12).to(x.dtype).expand(4) + 1

    image = torch.ones(1, 3, 32, 32)
    image[:, :, ::2] = -1
    assert errors_of(Chooses()(image), Chooses()(image.double())) == (0, 0, 0)
    assert own_errors(Chooses(), [image], errors_of).largest > 0.4


def test_a_file_that_appeared_meanwhile_stays(tmp_path, tiny):
    subject = Subject(tiny("van_b0").eval(), "mine", "backbone", statistics("van_b0", None), None)
    extent = Extent((32, 32))
    for overwrite in (False, True):
        (tmp_path / "mine.pt2").write_bytes(b"theirs")
        (row,) = export(subject, ["pt2"], tmp_path, extent, repeats=1, overwrite=overwrite)
        assert ((tmp_path / "mine.pt2").read_bytes() == b"theirs") == (not overwrite)
        assert (row.refused or "").endswith("allowed: another --out, or --overwrite") == (not overwrite)


def test_an_8_bit_copy_of_objects_is_refused_at_first():
    subject = Subject(nn.Identity(), "mine", "detection", None, None, outputs=("boxes", "scores", "labels"))
    with pytest.raises(UserError, match="an 8-bit copy of mine, which gives objects, is not made"):
        subject.check(Extent(), "float32", int8=True)


# --- free sizes


def test_examples_of_free_sizes_have_coarse_maps_of_several_rows():
    for size in ((32, 32), (48, 300), (128, 128), (500, 600)):
        assert Extent(size).example() == (1, 3, *size)
        height, width = Extent(size, 1, ("size",)).example()[2:]
        assert height > 128 < width and height >= size[0] and width >= size[1] and height != width


@pytest.mark.parametrize("free", [(), ("size",)])
def test_files_take_no_smaller_images_than_networks(free):
    subject = Subject(nn.Identity(), "mine", "segmentation", statistics("van_b0", None), None)
    subject = subject._replace(net=nn.Sequential(create_backbone("van_b0")))
    description = subject.describe(Extent((32, 32), 1, free), "float32", True)
    description.check((1, 3, 32, 32))
    for shape in ((1, 3, 31, 64), (1, 3, 64, 8)):
        with pytest.raises(UserError, match=f"input .*{f'{shape[3]}x{shape[2]}' if free else 'allowed'}"):
            description.check(shape)


@pytest.mark.parametrize("cells", [2, 3, (1, 6), (5, 2), 7])
@pytest.mark.parametrize("size", [(12, 18), (13, 7), (4, 5), (3, 29)])
def test_pooling_by_products_is_that_of_torch(cells, size):
    torch.manual_seed(0)
    x = torch.randn(2, 3, *size)
    net = nn.Sequential(nn.AdaptiveAvgPool2d(cells))
    wanted = net(x)
    free_pools(net)
    assert type(net[0]) is AveragePool
    torch.testing.assert_close(net(x), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cells", [1, (1, 1), (None, 3), (2, None)])
def test_pools_of_one_cell_or_a_free_side_stay(cells):
    net = nn.Sequential(nn.AdaptiveAvgPool2d(cells))
    free_pools(net)
    assert type(net[0]) is nn.AdaptiveAvgPool2d


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_enlarging_is_that_of_mmseg(mode):
    options = dict(mode=mode, align_corners=None if mode == "nearest" else False)
    x = torch.randn(1, 2, 5, 7)
    assert Enlarged(2, options)(x).equal(Upsample(scale_factor=2, **options)(x))


@pytest.mark.parametrize("name", ["upernet", "semantic_fpn"])
@torch.no_grad()
def test_a_record_of_a_segmenter_takes_every_size(name, cut_depths):
    cut_depths("van_b0", (1, 1, 1, 1))
    cfg = small_heads.config_of("segmentation", *small_heads.SEGMENTERS[name])
    model = small_heads.built(cfg)
    net = prepared(task_for(cfg).exported(model), free=True)
    recorded = record(net, Extent((128, 128), 1, ("batch", "size"))).module()
    for batch, height, width in ((2, 128, 160), (1, 160, 96), (3, 131, 217)):
        image = torch.randn(batch, 3, height, width)
        wanted = model(image, mode="tensor")
        found = errors_of(recorded(image), wanted)
        assert found.largest < 1e-5, (height, width)


def test_a_head_without_a_map_of_scores_is_refused():
    model = small_heads.built(small_heads.config_of("segmentation", *small_heads.SEGMENTERS["mask2former"]))
    with pytest.raises(UserError, match=r"^Mask2FormerHead of EncoderDecoder is not exported; allowed: .*--backbone$"):
        exported(model)

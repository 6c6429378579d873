"""The contract of every backbone, over every arch: shapes, info, freezing, checkpointing, fusing, copies, bad input.

Stages are cut to one or two blocks, since depth does not change these properties. Widths are the real ones.
"""

import copy
import io
import math
import pickle

import pytest
import torch
from helpers import SMALL, trained_norms

from backbones import UserError, cpu, create_backbone, list_archs, recompute
from backbones.ops import graph

ARCHS = list_archs()


@pytest.fixture
def shallow(cut_depths):
    """Makes backbones with at most two blocks a stage."""

    def make(arch, **kwargs):
        cut_depths(arch, (1, 2, 1, 1))
        return create_backbone(arch, **kwargs)

    return make


def check_maps(net, maps, size):
    """Number, channels and sizes; HorNet's unpadded convolutions round sides down, the others' up."""
    assert isinstance(maps, tuple)
    assert [m.shape[1] for m in maps] == [info.channels for info in net.feature_info]
    rounded = math.floor if net.arch.startswith("hornet") else math.ceil
    for m, info in zip(maps, net.feature_info, strict=True):
        assert m.shape[2:] == tuple(rounded(side / info.stride) for side in size)
        assert m.isfinite().all()


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("size", [(32, 32), (33, 65), (96, 47)])
def test_maps_are_as_feature_info_says(shallow, arch, size):
    net = shallow(arch).eval()
    assert [info.stride for info in net.feature_info] == [16] * 4 if arch.startswith("vig") else [4, 8, 16, 32]
    with torch.no_grad():
        check_maps(net, net(torch.randn(1, 3, *size)), size)


@pytest.mark.parametrize("arch", SMALL)
@pytest.mark.parametrize("size", [(32, 2000), (1999, 35), (427, 640)])
def test_any_size(shallow, arch, size):
    net = shallow(arch).eval()
    with torch.no_grad():
        check_maps(net, net(torch.randn(1, 3, *size)), size)


@pytest.mark.parametrize("arch", SMALL)
@pytest.mark.parametrize("size", [(32, 32), (63, 32)])
def test_one_image_trains(shallow, arch, size):
    """At stride 32 its map is a single value per channel, which has no variance."""
    net = shallow(arch, drop_path_rate=0.1).train()
    maps = net(torch.randn(1, 3, *size))
    sum(m.square().mean() for m in maps).backward()
    assert all(m.isfinite().all() for m in maps)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("out_indices", [(0,), (3,), (1, 3), (-1, 0), (-2,)])
def test_out_indices_select_and_order(shallow, arch, out_indices):
    torch.manual_seed(0)
    net = shallow(arch, out_indices=out_indices).eval()
    whole = create_backbone(arch).eval()
    whole.load_state_dict(net.state_dict(), strict=False)
    wanted = sorted(i % 4 for i in out_indices)
    assert net.out_indices == tuple(wanted)
    assert len(net.stages) == wanted[-1] + 1
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        every = whole(image)
        for ours, i in zip(net(image), wanted, strict=True):
            assert torch.equal(ours, every[i])


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("out_indices", [(0, 1, 2, 3), (1,)])
def test_every_parameter_gets_a_gradient(shallow, arch, out_indices):
    """So DDP runs with find_unused_parameters=False, for a batch of one too."""
    net = shallow(arch, out_indices=out_indices, drop_path_rate=0.1).train()
    sum(m.square().mean() for m in net(torch.randn(1, 3, 64, 64))).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("arch", ARCHS)
def test_drop_path_ramps_linearly(arch):
    with torch.device("meta"):
        net = create_backbone(arch, drop_path_rate=0.3)
    rates = [block.drop_path.rate for stage in net.stages for block in stage.blocks]
    assert len(rates) == sum(net.depths)
    assert rates == pytest.approx([0.3 * i / (len(rates) - 1) for i in range(len(rates))])


@pytest.mark.parametrize("frozen_stages", [-1, 0, 1, 2, 4])
@pytest.mark.parametrize("arch", SMALL)
def test_frozen_stages_do_not_move(shallow, arch, frozen_stages):
    """Neither weights nor statistics, after a training step with weight decay; everything else does."""
    net = shallow(arch, frozen_stages=frozen_stages).train()
    frozen = ["stem.", *(f"stages.{i}." for i in range(frozen_stages))] if frozen_stages >= 0 else []
    before = copy.deepcopy(net.state_dict())
    if frozen_stages < 4:
        optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
        sum(m.square().mean() for m in net(torch.randn(2, 3, 64, 64))).backward()
        optimizer.step()
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith(tuple(frozen) or "none"), name


@pytest.mark.parametrize("arch", SMALL)
def test_norm_eval_keeps_statistics(shallow, arch):
    net = shallow(arch, norm_eval=True).train()
    assert net.train() is net
    before = copy.deepcopy(net.state_dict())
    net(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert next(net.parameters()).requires_grad


@pytest.mark.parametrize("arch", ARCHS)
def test_grad_checkpointing_changes_nothing_but_memory(shallow, arch):
    """Same maps, gradients and batch-norm statistics; fewer activations kept for the backward pass."""
    plain = trained_norms(shallow(arch)).train()
    saving = create_backbone(arch, grad_checkpointing=True).train()
    saving.load_state_dict(plain.state_dict())
    image = torch.randn(2, 3, 64, 64)
    kept = []
    for net in (plain, saving):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t):
            loss = sum(m.square().mean() for m in net(image))
        kept.append(sum(sizes))
        loss.backward()
    assert kept[1] < 0.5 * kept[0]
    for (name, ours), (_, theirs) in zip(plain.named_parameters(), saving.named_parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)
    for name, value in plain.named_buffers():
        torch.testing.assert_close(value, dict(saving.named_buffers())[name], msg=name)


@pytest.mark.parametrize("arch", [pytest.param(a, marks=pytest.mark.numeric) if a in SMALL else a for a in ARCHS])
def test_fused_form_agrees(shallow, arch):
    """In float64, where a graph's nearest neighbours do not depend on rounding."""
    net = trained_norms(shallow(arch)).double().eval()
    image = torch.randn(2, 3, 64, 96).double()
    with torch.no_grad():
        before = net(image)
        assert net.fuse() is net and net.fuse() is net
        for ours, theirs in zip(net(image), before, strict=True):
            assert (ours - theirs).norm() / theirs.norm() < 1e-12
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in net.modules())
    with pytest.raises(UserError, match="fused"):
        net.train()


@pytest.mark.parametrize("arch", ARCHS)
def test_copies_and_half_types(shallow, arch, monkeypatch):
    """A graph in a half type has other nearest neighbours, so both types are compared with the same ones."""
    net = shallow(arch).eval()
    image = torch.randn(1, 3, 32, 32)
    neighbours, nearest = [], graph.nearest
    with torch.no_grad():
        monkeypatch.setattr(graph, "nearest", lambda *args: neighbours.append(nearest(*args)) or neighbours[-1])
        maps = net(image)
        monkeypatch.setattr(graph, "nearest", nearest)
        for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
            assert all(torch.equal(a, b) for a, b in zip(maps, twin(image), strict=True))
        monkeypatch.setattr(graph, "nearest", lambda *args: neighbours.pop(0))
        half = net.bfloat16()(image.bfloat16())
    assert not neighbours
    for ours, theirs in zip(half, maps, strict=True):
        assert ours.dtype == torch.bfloat16
        assert (ours.float() - theirs).norm() / theirs.norm() < 0.05


@pytest.mark.parametrize("arch", SMALL)
def test_survives_saving(shallow, arch):
    net = shallow(arch)
    buffer = io.BytesIO()
    torch.save(net.state_dict(), buffer)
    buffer.seek(0)
    create_backbone(arch).load_state_dict(torch.load(buffer, weights_only=True))


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"arch": "van_b99"}, ["van_b99", "van_b6"]),
        ({"arch": "vann_b0"}, ["vann_b0", "van_b0"]),
        ({"out_indices": (0, 4)}, ["out_indices", "(0, 4)", "-4 to 3"]),
        ({"out_indices": (1, 1)}, ["out_indices", "different"]),
        ({"out_indices": (3, -1)}, ["out_indices", "different"]),
        ({"out_indices": ()}, ["out_indices", "at least one"]),
        ({"out_indices": 2}, ["out_indices", "2"]),
        ({"out_indices": (1.0,)}, ["out_indices", "1.0"]),
        ({"in_chans": 0}, ["in_chans", "0"]),
        ({"in_chans": "3"}, ["in_chans", "'3'"]),
        ({"frozen_stages": 5}, ["frozen_stages", "5", "-1 to 4"]),
        ({"drop_path_rate": 1.0}, ["drop_path_rate", "1.0"]),
        ({"norm_eval": "no"}, ["norm_eval", "'no'", "True, False"]),
        ({"grad_checkpointing": 1}, ["grad_checkpointing", "1"]),
        ({"conv": "mr"}, ["argument of VAN", "'conv'", "in_chans", "_delete_=True"]),
        ({"arch": ["van_b0"]}, ["arch", "van_b0"]),
        ({"arch": "vig_tiny", "out_blocks": (1,), "out_indices": (0,)}, ["out_blocks", "(1,)", "out_indices", "(0,)"]),
        ({"pretrained": "van_b0.in21"}, ["van_b0.in21", "van_b0.in1k"]),
        ({"pretrained": "van_b2.in1k"}, ["van_b2.in1k", "van_b0"]),
        ({"pretrained": "absent.pth"}, ["absent.pth"]),
    ],
)
def test_wrong_arguments_are_named(kwargs, words):
    with pytest.raises(ValueError) as caught:
        create_backbone(**{"arch": "van_b0"} | kwargs)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize("shape", [(1, 4, 64, 64), (3, 64, 64), (1, 3, 31, 64), (1, 3, 64, 8), (0, 3, 64, 64)])
@pytest.mark.parametrize("arch", SMALL)
def test_wrong_inputs_are_named(shallow, arch, shape):
    net = shallow(arch)
    with pytest.raises(UserError, match=r"input (has shape|is) .*; allowed: "):
        net(torch.zeros(shape))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), r"torch\.uint8 on cpu; allowed: torch\.float32 on cpu"),
        (torch.zeros(1, 3, 32, 32).double(), r"torch\.float64 on cpu"),
        (torch.zeros(1, 3, 32, 32, device="meta"), r"torch\.float32 on meta"),
        (torch.zeros(1, 3, 32, 32).numpy(), "a ndarray; allowed: a tensor"),
    ],
)
@pytest.mark.parametrize("arch", SMALL)
def test_inputs_of_another_type_are_named(shallow, arch, image, words):
    net = shallow(arch)
    with pytest.raises(UserError, match=f"input is {words}"):
        net(image)


def test_inputs_that_autocast_or_a_hook_converts_are_taken(shallow):
    net, image = shallow("van_b0").eval(), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        expected = net(image)[0]
        with torch.autocast("cpu", torch.bfloat16):
            assert (net(image.bfloat16())[0] - expected).norm() < 0.1 * expected.norm()
            with pytest.raises(UserError, match=r"torch\.float64"):  # which it leaves alone
                net(image.double())
        net.stem.register_forward_pre_hook(lambda module, args: (args[0].float(),))
        assert torch.equal(net(image.double())[0], expected)


@pytest.mark.parametrize("in_chans", [1, 4])
@pytest.mark.parametrize("arch", SMALL)
def test_in_chans(shallow, arch, in_chans):
    assert len(shallow(arch, in_chans=in_chans).eval()(torch.zeros(1, in_chans, 32, 32))) == 4


@pytest.mark.numeric
@pytest.mark.parametrize("arch", SMALL)
def test_images_taken_in_slices_give_the_same_maps(shallow, arch, monkeypatch):
    """In inference for all; in training where no norm needs the whole batch, with the same gradients."""
    net = trained_norms(shallow(arch)).double().eval()
    images = torch.randn(3, 3, 64, 96).double()
    with torch.no_grad():
        whole = net(images)
        monkeypatch.setattr(cpu, "SLICE_BYTES", 1)
        assert cpu.may_slice(net.stages[0].blocks)
        for ours, theirs in zip(net(images), whole, strict=True):
            torch.testing.assert_close(ours, theirs)
    gradients = []
    for limit in (1, 1 << 40):
        monkeypatch.setattr(cpu, "SLICE_BYTES", limit)
        trained = copy.deepcopy(net).train()
        sum(m.sin().mean() for m in trained(images)).backward()
        gradients.append(
            [(name, param.grad) for name, param in trained.named_parameters()] + list(trained.named_buffers())
        )
    for (name, ours), (_, theirs) in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9, msg=name)


def published_std(arch, layer):
    """Of a layer's first weights: 0.02 for HorNet and where VVT has linear layers, else by fan-in (ViG) or fan-out."""
    fan_in = layer.weight[0].numel()
    linear = fan_in == layer.weight.shape[1] > 1
    if arch.startswith("hornet") or (arch.startswith("vvt") and linear):
        return 0.02
    fan = fan_in if "vig" in arch else layer.weight.numel() / layer.weight.shape[1] / layer.groups
    return (2 / fan) ** 0.5


@pytest.mark.parametrize("arch", SMALL)
def test_weights_start_as_published(shallow, arch):
    for name, layer in shallow(arch).named_modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            assert layer.bias is None or not layer.bias.any()
            if layer.weight.numel() > 5000:
                assert layer.weight.std().item() == pytest.approx(published_std(arch, layer), rel=0.05), name


@pytest.mark.parametrize("arch", ARCHS)
def test_every_layer_is_called(shallow, arch):
    """So that hooks fire, and a layer that is wrapped or replaced from outside is the one that computes."""
    net, called = shallow(arch).eval(), set()
    layers = {name for name, module in net.named_modules() if list(module.parameters(recurse=False))}
    for name in layers:
        net.get_submodule(name).register_forward_hook(lambda *_, name=name: called.add(name))
    net(torch.randn(1, 3, 64, 64))
    assert called == layers


@pytest.mark.parametrize("arch", [arch for arch in SMALL if not arch.startswith("vig")])  # whose quarters are not
def test_a_stage_is_called_with_whole_batches_and_gives_its_map(shallow, arch, monkeypatch):
    monkeypatch.setattr(cpu, "SLICE_BYTES", 1)
    net, seen = shallow(arch).eval(), []
    for stage in net.stages:
        stage.register_forward_hook(lambda stage, args, y: seen.append(y))
    maps = net(torch.randn(3, 3, 64, 64))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(maps, seen, strict=True))


@pytest.mark.parametrize("arch", ["van_b0", "vig_tiny"])
def test_recomputing_suits_norms_that_count_batches(shallow, arch):
    """SyncBatchNorm, which only a GPU runs, adds to ``num_batches_tracked`` in every training step."""
    block = shallow(arch).stages[0].blocks[0].train()
    norms = [module for module in block.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    with recompute.fixed_statistics(block):
        for norm in norms:
            norm.num_batches_tracked.add_(1)
    assert all(norm.num_batches_tracked == 0 and norm.momentum == 0.1 for norm in norms)


@pytest.mark.parametrize("kind", ["forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook"])
def test_hooks_get_whole_batches(shallow, kind, monkeypatch):
    monkeypatch.setattr(cpu, "SLICE_BYTES", 1)
    net, seen = shallow("van_b0").eval(), []
    register = getattr(net.stages[0].blocks[0].attn, f"register_{kind}")
    register(lambda module, *tensors: seen.append(len(tensors[0][0] if isinstance(tensors[0], tuple) else tensors[0])))
    net(torch.randn(3, 3, 64, 64))[0].sum().backward()
    assert seen == [3]

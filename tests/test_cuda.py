"""On a GPU, if there is one: what the CPU gives, mixed precision, compiling, inputs in any format."""

import copy

import numpy as np
import pytest
import torch
from helpers import SMALL, loss, trained_norms
from paper_run import RECIPE, options_for, write_images

from backbones import UserError
from classification.frozen.cache import Split
from classification.frozen.knn import knn
from classification.frozen.probe import linear_probe
from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_training

DEVICE = "cuda"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def check_equal(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert a.device.type == DEVICE
        torch.testing.assert_close(a.cpu(), b.cpu(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("arch", SMALL)
def test_maps_of_the_cpu(tiny, arch, memory_format, fused):
    """In float64, where neighbours do not depend on rounding; the filter of a size is kept on either device."""
    net = trained_norms(tiny(arch)).double().eval()
    net = net.fuse() if fused else net
    image = torch.randn(2, 3, 65, 130).double().contiguous(memory_format=memory_format)
    with torch.no_grad():
        expected = net(image)
        check_equal(net.to(DEVICE)(image.to(DEVICE)), expected)


@pytest.mark.parametrize("grad_checkpointing", [False, True])
@pytest.mark.parametrize("arch", SMALL)
def test_gradients_of_the_cpu(tiny, arch, grad_checkpointing):
    here = trained_norms(tiny(arch, grad_checkpointing=grad_checkpointing)).double().train()
    there = copy.deepcopy(here).to(DEVICE)
    image = torch.randn(2, 3, 64, 96).double()
    loss(here(image)).backward()
    loss(there(image.to(DEVICE))).backward()
    check_equal([p.grad for p in there.parameters()], [p.grad for p in here.parameters()])
    check_equal(there.buffers(), here.buffers())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("arch", SMALL)
def test_mixed_precision_is_finite(tiny, arch, dtype):
    """At a size whose Fourier transforms cuFFT has no half precision for."""
    net = tiny(arch).to(DEVICE).train()
    image = torch.randn(2, 3, 80, 112, device=DEVICE)
    with torch.autocast(DEVICE, dtype):
        maps = net(image)
    loss(maps).backward()
    assert all(m.isfinite().all() for m in maps)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    with torch.no_grad():
        assert all(m.dtype == dtype and m.isfinite().all() for m in net.eval().to(dtype)(image.to(dtype)))


@pytest.mark.parametrize("arch", SMALL)
def test_compiles_whole(tiny, arch):
    net = trained_norms(tiny(arch)).double().to(DEVICE).train()
    eager = copy.deepcopy(net)
    image = torch.randn(2, 3, 64, 64, device=DEVICE).double()
    loss(torch.compile(net, fullgraph=True)(image)).backward()
    loss(eager(image)).backward()
    check_equal([p.grad for p in net.parameters()], [p.grad for p in eager.parameters()])


def test_frozen_features_are_judged_as_on_the_cpu():
    random = np.random.default_rng(0)
    labels = np.arange(300) % 5
    features = (random.normal(size=(5, 16))[labels] + random.normal(size=(300, 16))).astype(np.float32)
    train, val = Split(features[:200], labels[:200]), Split(features[200:], labels[200:])
    assert knn(train, val, 5, (1, 20), device=DEVICE) == knn(train, val, 5, (1, 20))
    here, there = (linear_probe(train, val, 5, (0.01, 0.1), epochs=5, device=device) for device in ("cpu", DEVICE))
    for one, other in zip(here["grid"], there["grid"], strict=True):
        assert one["top1"] == pytest.approx(other["top1"], abs=1)  # an image on the border may fall on either side


def test_the_largest_batch_for_the_memory_is_found(tmp_path, capsys):
    """Twelve images are the limit; of a budget that holds no step, the run says so."""
    options = options_for(write_images(tmp_path / "data"), 0, custom_hooks=[]) | {"batch_size": "auto"}
    runner = build_training(load_config(RECIPE, options), tmp_path / "run", device=DEVICE)
    assert runner.cfg.train_dataloader.batch_size == 8
    assert "8: 0." in capsys.readouterr().err
    with pytest.raises(UserError, match=r"batch_size=auto: a batch of . needs .* of 0.00098 GiB"):
        small = load_config(RECIPE, options | {"memory_budget": "1MiB"})
        build_training(small, tmp_path / "other", device=DEVICE)

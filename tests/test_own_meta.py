"""The description in an own checkpoint is read back as it was written, from both kinds of files."""

import pytest
import torch

from backbones import create_backbone
from backbones.weights import own_meta, read_checkpoint, read_own_meta, save_safely

CONFIG = {"scale": (1333, 800), "steps": [(8, 0.1), (11, 0.01)], "empty": [(), [], {}], "of": {"a": None, "b": True}}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_own_meta_comes_back(suffix, tmp_path):
    net = create_backbone("van_b0", out_indices=(1, 3))
    own = own_meta(net, (0.1, 0.2, 0.3), torch.tensor([0.5, 0.5, 0.5]), "detection", ("box", "disc"), CONFIG)
    save_safely({"weight": torch.zeros(1), "meta": {"ziggurat": own}}, tmp_path / f"x{suffix}")
    read = read_own_meta(read_checkpoint(tmp_path / f"x{suffix}"))
    assert read == own
    assert read["config"] == CONFIG and read["classes"] == ["box", "disc"]
    assert (read["mean"], read["std"]) == ([0.1, 0.2, 0.3], [0.5, 0.5, 0.5])
    same = create_backbone(**read["backbone"])
    assert same.arguments() == net.arguments()

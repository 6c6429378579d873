"""A stage of a pyramid."""

import torch
from torch import Tensor, nn

from backbones import cpu
from backbones.recompute import run_recomputed


class Stage(nn.Module):
    """Downsampling, blocks, and the norm that ends the stage, in this order.

    Attributes:
        width: channels of the widest map inside a block.
        grad_checkpointing: whether the backward pass computes the activations of blocks again.
    """

    def __init__(self, downsample: nn.Module, blocks: list[nn.Module], norm: nn.Module):
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm
        self.width = max(len(m.weight) for m in self.blocks.modules() if isinstance(m, nn.Conv2d | nn.Linear))
        self.grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        """The map (B, C, H, W) of the stage before to the map of this stage."""
        x = self.downsample(x)
        done = [self.run(part) for part in cpu.slices(x, self.width, self.blocks, self.norm)]
        return torch.cat(done) if len(done) > 1 else done[0]

    def run(self, x: Tensor) -> Tensor:
        """Blocks and norm, for a part of the batch."""
        for block in self.blocks:
            x = self.run_block(block, x)
        return self.norm(x)

    def run_block(self, block: nn.Module, x: Tensor) -> Tensor:
        recompute = self.grad_checkpointing and self.training and torch.is_grad_enabled()
        return run_recomputed(block, x) if recompute else block(x)

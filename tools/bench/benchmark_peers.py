"""The peers of benchmark_backbones.py: other implementations of our networks, with the same weights."""

from torch import Tensor, nn
from vvt_reference import vvt_maps

from backbones import PyramidBackbone, UserError, convert
from ziggurat import mmcv_ops
from ziggurat.engine.console import quiet_imports


def make_peer(ours: PyramidBackbone) -> nn.Module:
    """onedl-mmpretrain's network of the same arch with the same weights, or the literal VVT.

    Args:
        ours: a backbone with all four maps. A HorNet has ``out_norm=True``.

    Raises:
        UserError: onedl-mmpretrain is not installed, or its network differs.
    """
    if ours.arch.startswith("vvt"):
        return LiteralVVT(ours)
    mmcv_ops.install()
    try:
        with quiet_imports():
            from mmpretrain.models import backbones
    except ImportError as error:
        raise UserError(f"onedl-mmpretrain cannot be imported ({error}); make bench installs it") from None
    row, (family, _, variant) = ours.ARCHS[ours.arch], ours.arch.partition("_")
    if family == "van":
        arch = {"embed_dims": [*row.embed_dims], "depths": [*row.depths], "ffn_ratios": [*row.mlp_ratios]}
        peer = backbones.VAN(arch, out_indices=(0, 1, 2, 3))
    elif family == "hornet":
        filters = [{"type": "GF", "h": f[0], "w": f[1]} if f else {"type": "DW", "kernel_size": 7} for f in row.filters]
        arch = {"base_dim": row.embed_dims[0], "depths": [*row.depths], "orders": [*row.orders], "dw_cfg": filters}
        peer = backbones.HorNet(arch, out_indices=(0, 1, 2, 3), gap_before_final_norm=False)
    elif family == "pvig":
        peer = backbones.PyramidVig(variant, out_indices=[0, 1, 2, 3])
    elif family == "vig":
        peer = backbones.Vig(variant, out_indices=[*ours.out_blocks])
    else:
        raise UserError(f"{ours.arch} has no peer to compare with; add --alone to time {ours.arch} by itself")
    state, out_norms = {}, {}
    for name, value in ours.state_dict().items():
        if name.startswith("out_norms."):
            out_norms[name.replace("out_norms.", "norm")] = value  # norm0.weight ...
        else:
            state[name] = value
    state, left_out = convert.write_state(ours.arch, row, state, "mmpretrain")
    state = {name.removeprefix("backbone."): value for name, value in state.items()} | out_norms
    unmatched = peer.load_state_dict(state, strict=False)
    if left_out or any(unmatched):
        raise UserError(f"{ours.arch}: the weights do not fit onedl-mmpretrain's network: {left_out} {unmatched}")
    return peer


class LiteralVVT(nn.Module):
    """The plain VVT of vvt_reference.py with our network's weights, under the official names."""

    def __init__(self, ours: PyramidBackbone):
        super().__init__()
        self.row = ours.ARCHS[ours.arch]
        state, _ = convert.write_state(ours.arch, self.row, ours.state_dict(), "official")
        self.names = list(state)
        self.tensors = nn.ParameterList(nn.Parameter(value.clone()) for value in state.values())

    def forward(self, x: Tensor) -> list[Tensor]:
        state = dict(zip(self.names, self.tensors, strict=True))
        return vvt_maps(state, self.row.depths, self.row.num_heads, x)

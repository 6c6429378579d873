"""A literal reading of VVT's published forward pass, step for step, in its own layouts and with its own tensor names.

The fast network is checked and timed against this one. Tokens are (B, N, C). The attention runs on (N, B, C). Every
call computes every position term anew. Four copies of the features are concatenated. Each clamp is a sign, an absolute
value, a clamp and a product.

Source of the steps: OpenNLPLab/Vicinity-Vision-Transformer@2c49e0f, classification/vvt.py.
"""

import math

import torch
import torch.nn.functional as F


def vvt_maps(state, depths, num_heads, image):
    """The four (B, C, H, W) maps after the stage norms.

    Args:
        state: the tensors under the official names. Tensors that require gradients get them.
        depths: blocks per stage.
        num_heads: heads per stage.
        image: (B, in_chans, H, W).
    """
    maps, x = [], image
    for s, (depth, heads) in enumerate(zip(depths, num_heads, strict=True), start=1):
        embed = f"patch_embed{s}"
        stride, padding = (4, 3) if s == 1 else (2, 1)
        x = F.conv2d(x, state[f"{embed}.proj.weight"], state[f"{embed}.proj.bias"], stride, padding)
        batch, _, height, width = x.shape
        x = layer_norm(state, f"{embed}.norm", x.flatten(2).transpose(1, 2), eps=1e-5)
        for j in range(depth):
            block = f"block{s}.{j}"
            x = x + attention(
                state, f"{block}.attn", layer_norm(state, f"{block}.norm1", x, 1e-6), height, width, heads
            )
            x = x + mlp(state, f"{block}.mlp", layer_norm(state, f"{block}.norm2", x, 1e-6), height, width)
        x = layer_norm(state, f"norm{s}", x, 1e-6)
        x = x.reshape(batch, height, width, -1).permute(0, 3, 1, 2).contiguous()
        maps.append(x)
    return maps


def attention(state, name, x, height, width, num_heads):
    """Tokens (B, N, C) to (B, N, C)."""
    batch, tokens, channels = x.shape
    gate = F.adaptive_avg_pool1d(x.permute(0, 2, 1), 1).view(batch, channels)
    gate = F.linear(F.linear(gate, state[f"{name}.se_fc.0.weight"]).relu_(), state[f"{name}.se_fc.2.weight"])
    gate = gate.sigmoid().view(batch, channels, 1)

    k = linear(state, f"{name}.k_proj", x).permute(1, 0, 2)
    v = linear(state, f"{name}.v_proj", x).permute(1, 0, 2)
    q = linear(state, f"{name}.q_proj", x.permute(1, 0, 2))
    q, k, v = (t.contiguous().view(tokens, batch, num_heads, -1).transpose(0, 1) for t in (q, k, v))
    out = vicinity(F.relu(q), F.relu(k), v, height, width)

    out = out.transpose(0, 1).contiguous().view(tokens, batch, -1)
    out = clamp(linear(state, f"{name}.out_proj", out)).permute(1, 2, 0)
    out = clamp(out + out * gate.expand_as(out))
    return out.permute(2, 0, 1).permute(1, 0, 2)


def vicinity(q, k, v, height, width):
    """Linear attention with positions: q, k, v of (B, N, h, d) to (B, N, h, d)."""
    q, k = with_positions(q, k, height, width)
    kv = clamp(torch.matmul(k.permute(0, 2, 3, 1), v.permute(0, 2, 1, 3)))
    z = clamp(1 / (torch.sum(q * torch.sum(k, dim=1, keepdim=True), dim=-1) + 1e-4))
    out = clamp(torch.matmul(q.transpose(1, 2), kv).transpose(1, 2))
    return clamp(out * z.unsqueeze(-1))


def with_positions(q, k, height, width):
    """Four features in place of each of the d: (B, N, h, 4 d). The angles are float32, whatever the type of q is."""
    index = torch.arange(height * width, device=q.device).reshape(1, -1, 1, 1)
    a = (math.pi / 2 * (index // width) / height).to(q)
    b = (math.pi / 2 * (index % width) / width).to(q)
    q = torch.cat([q * torch.cos(a), q * torch.sin(a), q * torch.cos(b), q * torch.sin(b)], dim=-1)
    k = torch.cat([k * torch.cos(a), k * torch.sin(a), k * torch.cos(b), k * torch.sin(b)], dim=-1)
    return q, k


def rounding_decides(q, k, v, height, width):
    """A mask (B, N, h, d) of the values of :func:`vicinity` whose sign rounding decides.

    A clamp turns a sum that should be 0 into 1e-4, with the sign of the sum's rounding error. Such sums occur: clamped
    entries of kv have equal magnitudes, so they cancel at a token whose two angles are equal. A fused multiply-add
    leaves the rounding error of a product. Separate products and sums leave 0. So the literal form gives other signs on
    a processor, or in a library, without that instruction.

    The bound: a sum of n products, in any order and on any vector unit, is off by at most n u times the sum of the
    magnitudes, with the unit roundoff u = eps / 2 (Higham, Accuracy and Stability of Numerical Algorithms, 3.1). An
    entry of kv is a sum over N tokens, an entry of the result a sum over 4 d features. 8 more roundings make the
    features. Two ways of computing a sum differ by at most twice this bound. Their signs differ only if the sum is
    smaller than that.
    """
    tokens, features = q.shape[1], 4 * q.shape[3]
    relative = (tokens + features + 8) * torch.finfo(q.dtype).eps
    q, k = (t.transpose(1, 2) for t in with_positions(q, k, height, width))
    v = v.transpose(1, 2)
    kv, uncertain = k.mT @ v, relative * (k.mT @ v.abs())
    unsigned = kv.abs() <= uncertain
    kv = clamp(kv)
    uncertain += relative * kv.abs() + 2 * kv.abs() * unsigned
    uncertain = q @ uncertain
    return (((q @ kv).abs() <= uncertain) & (uncertain > 0)).transpose(1, 2)


def mlp(state, name, x, height, width):
    """Tokens (B, N, C) to (B, N, C)."""
    x = linear(state, f"{name}.fc1", x)
    batch, _, hidden = x.shape
    x = x.transpose(1, 2).view(batch, hidden, height, width)
    weight, bias = state[f"{name}.dwconv.dwconv.weight"], state[f"{name}.dwconv.dwconv.bias"]
    x = F.conv2d(x, weight, bias, padding=1, groups=hidden)
    return linear(state, f"{name}.fc2", F.gelu(x.flatten(2).transpose(1, 2)))


def clamp(t):
    """Clamps the magnitude to [1e-4, 1e4] and keeps the sign. Zero stays zero. Overwrites its argument."""
    sign = t.sign()
    return t.abs_().clamp_(1e-4, 1e4) * sign


def linear(state, name, x):
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def layer_norm(state, name, x, eps):
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)

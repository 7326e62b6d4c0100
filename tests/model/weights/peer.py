"""A network of the published kind as others compute it: q, k, v apart, by FastVideo's names, tensor by tensor.

Stated apart from reelwright.model: it shares neither names nor layers with it. Dense attention, no condition frames.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F


def forward(w: Mapping[str, Tensor], x: Tensor, t: Tensor, text: Tensor, heads: int) -> Tensor:
    """x [1, C, T, H, W], t [1], text [1, L, D] -> [1, C, T, H, W], of weights `w` by name."""

    def linear(name: str, v: Tensor) -> Tensor:
        return F.linear(v, w[f"{name}.weight"], w.get(f"{name}.bias"))

    frames, rows, columns = x.shape[2], x.shape[3] // 2, x.shape[4] // 2
    tokens = F.conv3d(x, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=(1, 2, 2))
    tokens = tokens.flatten(2).transpose(1, 2)
    half = w["time_embedder.linear_1.weight"].shape[1] // 2
    angle = t[:, None] * torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
    time = F.silu(linear("time_embedder.linear_1", torch.cat((angle.cos(), angle.sin()), dim=-1)))
    time = F.silu(linear("time_embedder.linear_2", time))
    text = linear("caption_embedder.linear_2", F.gelu(linear("caption_embedder.linear_1", text), approximate="tanh"))
    dim = tokens.shape[-1]
    turn = rotation(dim // heads, frames, rows, columns)
    for i in range(1 + max(int(n.split(".")[1]) for n in w if n.startswith("blocks."))):
        at = f"blocks.{i}"
        shift, scale, gate, shift_ffn, scale_ffn, gate_ffn = linear(f"{at}.adaln_linear_1", time)[:, None].chunk(6, -1)
        h = F.layer_norm(tokens, (dim,), eps=1e-6) * (1 + scale) + shift
        q, k, v = (split(linear(f"{at}.self_attn.to_{n}", h), heads) for n in "qkv")
        q, k = (rms(a, w[f"{at}.self_attn.{n}_norm.weight"]) for a, n in ((q, "q"), (k, "k")))
        own = F.scaled_dot_product_attention(rotated(q, turn), rotated(k, turn), v)
        tokens = tokens + gate * linear(f"{at}.self_attn.to_out", own.transpose(1, 2).flatten(2))
        norm = F.layer_norm(tokens, (dim,), w[f"{at}.norm_cross.weight"], w[f"{at}.norm_cross.bias"], 1e-6)
        q = split(linear(f"{at}.cross_attn.to_q", norm), heads)
        k, v = (split(linear(f"{at}.cross_attn.to_{n}", text), heads) for n in "kv")
        q, k = (rms(a, w[f"{at}.cross_attn.{n}_norm.weight"]) for a, n in ((q, "q"), (k, "k")))
        read = F.scaled_dot_product_attention(q, k, v)
        tokens = tokens + linear(f"{at}.cross_attn.to_out", read.transpose(1, 2).flatten(2))
        h = F.layer_norm(tokens, (dim,), eps=1e-6) * (1 + scale_ffn) + shift_ffn
        wide = F.silu(linear(f"{at}.ffn.w1", h)) * linear(f"{at}.ffn.w3", h)
        tokens = tokens + gate_ffn * linear(f"{at}.ffn.w2", wide)
    shift, scale = linear("final_layer.adaln_linear", time)[:, None].chunk(2, -1)
    out = linear("final_layer.proj", F.layer_norm(tokens, (dim,), eps=1e-6) * (1 + scale) + shift)
    out = out.view(1, frames, rows, columns, 2, 2, x.shape[1]).permute(0, 6, 1, 2, 4, 3, 5)
    return out.reshape(x.shape)


def split(v: Tensor, heads: int) -> Tensor:
    return v.unflatten(-1, (heads, -1)).transpose(1, 2)


def rms(v: Tensor, weight: Tensor) -> Tensor:
    return v * torch.rsqrt(v.pow(2).mean(-1, keepdim=True) + 1e-6) * weight


def rotation(dim: int, frames: int, rows: int, columns: int) -> Tensor:
    """Complex [N, dim / 2]: time, rows, columns."""
    space = 2 * (dim // 6)
    sizes = (dim - 2 * space, space, space)
    grid = torch.meshgrid(torch.arange(frames), torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [
        at.flatten()[:, None] * 10000.0 ** (-torch.arange(0, size, 2) / size)
        for at, size in zip(grid, sizes, strict=True)
    ]
    phase = torch.cat(angles, dim=-1)
    return torch.polar(torch.ones_like(phase), phase)


def rotated(v: Tensor, turn: Tensor) -> Tensor:
    return torch.view_as_real(torch.view_as_complex(v.unflatten(-1, (-1, 2)).contiguous()) * turn).flatten(-2)

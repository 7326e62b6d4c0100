"""Qwen2-VL once more, in plain torch and float64, from weights of the old layout: the oracle of the rewards' tests."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear, silu

from tests.training.rewards.qwen2_vl.published import (
    DEPTH,
    HEADS,
    KV_HEADS,
    LAYERS,
    SECTIONS,
    SEEN,
    SEEN_HEADS,
    WIDTH,
    Weights,
)  # fmt: skip

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073], dtype=torch.float64)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711], dtype=torch.float64)


def score_states(w: Weights, ids: list[int], frames: np.ndarray, pad: int, positions: Tensor | None = None) -> Tensor:
    """Hidden states, float64 [L, width], of a text with the tokens of frames, float or uint8 [T, H, W, 3], in it."""
    w = {name: value.double() for name, value in w.items()}
    seen = vision(w, frames)
    x = w["model.embed_tokens.weight"][ids].clone()
    where = torch.tensor(ids) == pad
    assert int(where.sum()) == len(seen)
    x[where] = seen
    plain = torch.arange(len(ids)).expand(3, -1)
    return language(w, x, plain if positions is None else positions)


def vision(w: Weights, frames: np.ndarray) -> Tensor:
    """Tokens, float64 [t/2 · h/28 · w/28, width]."""
    x = (torch.from_numpy(frames.astype(np.float64)) / 255 - MEAN) / STD
    t, rows, columns = len(x) // 2, x.shape[1] // 14, x.shape[2] // 14
    places = [
        (k, 2 * r + a, 2 * c + b)
        for k in range(t) for r in range(rows // 2) for c in range(columns // 2) for a in (0, 1) for b in (0, 1)
    ]  # fmt: skip
    patches = [x[2 * k : 2 * k + 2, 14 * r : 14 * r + 14, 14 * c : 14 * c + 14] for k, r, c in places]
    flat = torch.stack([patch.permute(3, 0, 1, 2).reshape(-1) for patch in patches])  # channel, time, row, column
    x = flat @ w["visual.patch_embed.proj.weight"].reshape(SEEN, -1).T
    angles = vision_angles(places)
    same = torch.tensor([k for k, _, _ in places])
    allowed = same[:, None] == same[None, :]  # frames do not see one another
    for i in range(DEPTH):
        at = f"visual.blocks.{i}"
        h = layer_norm(x, (SEEN,), w[f"{at}.norm1.weight"], w[f"{at}.norm1.bias"], 1e-6)
        q, k, v = linear(h, w[f"{at}.attn.qkv.weight"], w[f"{at}.attn.qkv.bias"]).chunk(3, -1)
        q, k = (turned(heads(part, SEEN_HEADS), angles) for part in (q, k))
        mixed = attention(q, k, heads(v, SEEN_HEADS), allowed)
        x = x + linear(mixed, w[f"{at}.attn.proj.weight"], w[f"{at}.attn.proj.bias"])
        h = layer_norm(x, (SEEN,), w[f"{at}.norm2.weight"], w[f"{at}.norm2.bias"], 1e-6)
        h = linear(h, w[f"{at}.mlp.fc1.weight"], w[f"{at}.mlp.fc1.bias"])
        x = x + linear(h * torch.sigmoid(1.702 * h), w[f"{at}.mlp.fc2.weight"], w[f"{at}.mlp.fc2.bias"])
    x = layer_norm(x, (SEEN,), w["visual.merger.ln_q.weight"], w["visual.merger.ln_q.bias"], 1e-6).reshape(-1, 4 * SEEN)
    x = gelu(linear(x, w["visual.merger.mlp.0.weight"], w["visual.merger.mlp.0.bias"]))
    return linear(x, w["visual.merger.mlp.2.weight"], w["visual.merger.mlp.2.bias"])


def language(w: Weights, x: Tensor, positions: Tensor) -> Tensor:
    length = len(x)
    angles = text_angles(positions)
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    for i in range(LAYERS):
        at = f"model.layers.{i}"
        h = rms(x, w[f"{at}.input_layernorm.weight"])
        q, k, v = (linear(h, w[f"{at}.self_attn.{n}_proj.weight"], w[f"{at}.self_attn.{n}_proj.bias"]) for n in "qkv")
        q, k, v = turned(heads(q, HEADS), angles), turned(heads(k, KV_HEADS), angles), heads(v, KV_HEADS)
        k, v = (part.repeat_interleave(HEADS // KV_HEADS, 0) for part in (k, v))
        x = x + attention(q, k, v, causal) @ w[f"{at}.self_attn.o_proj.weight"].T
        h = rms(x, w[f"{at}.post_attention_layernorm.weight"])
        gated = silu(h @ w[f"{at}.mlp.gate_proj.weight"].T) * (h @ w[f"{at}.mlp.up_proj.weight"].T)
        x = x + gated @ w[f"{at}.mlp.down_proj.weight"].T
    return rms(x, w["model.norm.weight"])


def heads(x: Tensor, count: int) -> Tensor:
    return x.reshape(len(x), count, -1).transpose(0, 1)


def attention(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor) -> Tensor:
    weight = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).masked_fill(~allowed, -torch.inf).softmax(-1)
    return (weight @ v).transpose(0, 1).reshape(q.shape[1], -1)


def rms(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * weight


def turned(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate pairs (i, i + d/2) of [heads, L, d] by angles [L, d/2]."""
    a, b = x.chunk(2, -1)
    return torch.cat((a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()), -1)


def vision_angles(places: list[tuple[int, int, int]]) -> Tensor:
    size = SEEN // SEEN_HEADS // 2
    speeds = 10000.0 ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    spots = torch.tensor([place[1:] for place in places], dtype=torch.float64)
    return torch.cat([spots[:, :1] * speeds, spots[:, 1:] * speeds], 1)


def text_angles(positions: Tensor) -> Tensor:
    size = WIDTH // HEADS
    speeds = 1e6 ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    axis = torch.repeat_interleave(torch.arange(3), torch.tensor(SECTIONS))
    return positions.double()[axis].T * speeds


def mrope(ids: list[int], pad: int, grid: tuple[int, int, int]) -> Tensor:
    """Positions as newer transformers count them: rows, columns and frames apart."""
    t, h, w = grid[0], grid[1] // 2, grid[2] // 2
    first, count = ids.index(pad), t * h * w
    inside = torch.cartesian_prod(torch.arange(t), torch.arange(h), torch.arange(w)).T + first
    after = first + max(h, w) + torch.arange(len(ids) - first - count)
    return torch.cat([torch.arange(first).expand(3, -1), inside, after.expand(3, -1)], 1)

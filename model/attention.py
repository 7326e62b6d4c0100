"""Self- and cross-attention, and the place where another kernel plugs in."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reelwright.kernels import BlockGrid, block_grids
from reelwright.kernels.blocks import Triple
from reelwright.model.norms import HeadNorm
from reelwright.model.rope import rotate
from reelwright.model.text.keys import TextKeys


@dataclass(frozen=True)
class Layout:
    """Where keys and queries lie. frames × rows × columns: the keys' token grid, cached frames included.

    cond_frames: number of the queries' first frames that see condition keys only. cached_frames: the keys' first
    frames, which have no query. block: the tokens are in the order of blocks of these sizes, of queries and of keys; in
    (t, h, w) order if none. Condition frames come first in either.
    """

    frames: int
    rows: int
    columns: int
    cond_frames: int = 0
    cached_frames: int = 0
    block: tuple[Triple, Triple] | None = None

    @property
    def frame_tokens(self) -> int:
        """Number of tokens in a frame."""
        return self.rows * self.columns

    @property
    def query_frames(self) -> int:
        """Number of frames that are computed, not read from the cache."""
        return self.frames - self.cached_frames

    @property
    def grids(self) -> tuple[BlockGrid, BlockGrid]:
        """The blocks of queries and of keys, where tokens are in block order."""
        assert self.block is not None
        frame = (self.rows, self.columns)
        clean = self.cond_frames + self.cached_frames
        return block_grids((self.query_frames, *frame), (self.frames, *frame), self.block, clean)

    @property
    def depths(self) -> tuple[list[int], list[int]]:
        """Frames of each run of them that lies together, a frame or a row of blocks deep: the queries', the keys'."""
        if self.block is None:
            return [1] * self.query_frames, [1] * self.frames
        queries, keys = (grid.depths for grid in self.grids)
        return queries, keys


class Attend(Protocol):
    """q [B, heads, Nq, D], k and v [B, heads, Nk, D], tokens in the layout's order -> [B, heads, Nq, D].

    It may have `arrange(layout)`, which says the order that it wants a network's tokens in, and `send(v)`, which begins
    v's way to other ranks while q and k are normed; its result is then passed as v.
    """

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
        """Attend; the class says the shapes."""


def dense_attention(q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
    """Condition queries see condition keys, noisy queries see all: two calls without a mask."""
    clean = layout.cond_frames * layout.frame_tokens
    if not clean:
        return F.scaled_dot_product_attention(q, k, v)
    condition = F.scaled_dot_product_attention(q[:, :, :clean], k[:, :, :clean], v[:, :, :clean])
    if clean == q.shape[2]:
        return condition
    return torch.cat((condition, F.scaled_dot_product_attention(q[:, :, clean:], k, v)), dim=2)


def set_attention(model: nn.Module, attend: Attend) -> None:
    """Make every self-attention of `model` compute by `attend`."""
    for module in model.modules():
        if isinstance(module, SelfAttention):
            module.attend = attend


def arranged(model: nn.Module, layout: Layout) -> Layout:
    """Return a layout in the order that the attention of `model` wants tokens in."""
    attend = next(module.attend for module in model.modules() if isinstance(module, SelfAttention))
    arrange = getattr(attend, "arrange", None)
    return layout if arrange is None else arrange(layout)


class SelfAttention(nn.Module):
    """3D self-attention with per-head RMS norms and rotary positions."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.q_norm, self.k_norm = HeadNorm(dim // heads), HeadNorm(dim // heads)
        self.proj = nn.Linear(dim, dim)
        self.attend: Attend = dense_attention

    def forward(
        self, x: Tensor, rope: Tensor, layout: Layout, cached: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Attend from x to itself, and to cached keys before it.

        Args:
            x: [B, N, C].
            rope: RoPE of all keys; the queries' is its last N.
            layout: grid and order of the tokens.
            cached: keys before RoPE and values that come before x's.

        Returns:
            Output [B, N, C], and x's own keys before RoPE and values, [B, heads, N, D].
        """
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        own_v, send = v, getattr(self.attend, "send", None)
        if cached is not None:
            v = torch.cat((cached[1].to(v.dtype), v), dim=2)
        if send is not None:
            v = send(v)
        q, k = self.q_norm(q), self.k_norm(k)
        own = (k, own_v)
        if cached is not None:
            k = torch.cat((cached[0].to(k.dtype), k), dim=2)
        out = self.attend(rotate(q, rope[-x.shape[1] :]), rotate(k, rope), v, layout)
        return self.proj(out.transpose(1, 2).flatten(2)), own


class CrossAttention(nn.Module):
    """Attention of tokens to text."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_linear = nn.Linear(dim, dim)
        self.kv_linear = nn.Linear(dim, 2 * dim)
        self.q_norm, self.k_norm = HeadNorm(dim // heads), HeadNorm(dim // heads)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, text: TextKeys) -> Tensor:
        """Attend from x to the text: [B, N, C] -> [B, N, C]."""
        q = self.q_norm(self.q_linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2))
        k, v = self.kv_linear(text.rows).unflatten(-1, (2, self.heads, -1)).unbind(1)
        k, v = (text.keys_of(rows, len(x)) for rows in (self.k_norm(k), v))
        bias = text.bias if text.bias is None or text.bias.dtype == torch.bool else text.bias.to(q.dtype)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(out.transpose(1, 2).flatten(2))

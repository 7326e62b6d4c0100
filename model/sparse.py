"""Block-sparse self-attention in the network: an `Attend` that can warm up densely, and leaves images dense.

Source: LongCat-Video technical report, A.2: distillation keeps 1/8 of the key blocks, refinement 1/16, after a dense
warm-up. Without training it does for sampling too.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from kernels import CDF, BlockGrid, TopR, block_sparse_attention
from model.attention import Layout, dense_attention, set_attention

Triple = tuple[int, int, int]


class AttentionConfig(BaseModel):
    """Which self-attention a network computes by."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    form: Literal["dense", "sparse"] = "dense"
    block: Triple = Field((4, 4, 4), description="frames, rows, columns of tokens in a block of queries")
    key_block: Triple | None = Field(None, description="of keys, where it differs: a multiple or a part of `block`")
    keep: float = Field(1 / 16, ge=0, le=1, description="share of key blocks kept, rounded up")
    cdf: float | None = Field(None, ge=0, le=1, description="instead of `keep`: blocks until their softmax reaches it")
    min_frames: int = Field(2, ge=1, description="token frames from which it is sparse: single images are dense")
    dense_steps: int = Field(0, ge=0, description="training steps that are dense before it becomes sparse")

    @model_validator(mode="after")
    def _check(self) -> "AttentionConfig":
        if any(n < 1 for n in (*self.block, *(self.key_block or ()))):
            raise ValueError("sizes of blocks are positive")
        BlockGrid((1, 1, 1), self.block, 0, self.key_block)  # the two have a common token order
        return self


@dataclass
class SparseAttention:
    """An `Attend`. active: set to false, it is dense; a training loop does so until `dense_steps` are done.

    Tokens come in (t, h, w) order and are put into block order here, in every layer.
    """

    config: AttentionConfig
    active: bool = True

    def at_step(self, step: int) -> None:
        """Dense for the first `dense_steps` steps, counted from 0."""
        self.active = step >= self.config.dense_steps

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
        config = self.config
        if not self.active or layout.frames < config.min_frames:
            return dense_attention(q, k, v, layout)
        if 0 < layout.cond_frames < config.min_frames:
            return self._apart(q, k, v, layout)
        rule = TopR(config.keep) if config.cdf is None else CDF(config.cdf)
        grid = (layout.rows, layout.columns)
        return block_sparse_attention(
            q.to(v.dtype),
            k.to(v.dtype),
            v,
            grid_q=(layout.frames - layout.cached_frames, *grid),
            grid_k=(layout.frames, *grid),
            block=(config.block, config.key_block or config.block),
            select=rule,
            cond_frames=layout.cond_frames + layout.cached_frames,
        )

    def _apart(self, q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
        """A condition that is short enough to be dense by itself, as it is when a cache of it is made."""
        clean = layout.cond_frames * layout.frame_tokens
        alone = Layout(layout.cond_frames, layout.rows, layout.columns)
        condition = self(q[:, :, :clean], k[:, :, :clean], v[:, :, :clean], alone)
        noisy = Layout(layout.frames, layout.rows, layout.columns, 0, layout.cond_frames)
        return torch.cat((condition, self(q[:, :, clean:], k, v, noisy)), dim=2)


def use_attention(model: nn.Module, config: AttentionConfig) -> SparseAttention | None:
    """Make a DiT attend by a config; returns what a loop tells its steps to, None for dense attention."""
    if config.form == "dense":
        set_attention(model, dense_attention)
        return None
    attend = SparseAttention(config)
    set_attention(model, attend)
    return attend

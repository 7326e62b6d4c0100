"""Block-sparse self-attention in the network: an `Attend` that can warm up densely, and leaves images dense.

Source: LongCat-Video technical report, A.2: distillation keeps 1/8 of the key blocks, refinement 1/16, after a dense
warm-up. Without training it does for sampling too.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from reelwright.kernels import CDF, TopR, block_sparse_attention
from reelwright.kernels.blocks import Triple
from reelwright.model.attention import Attend, Layout, SelfAttention, dense_attention, set_attention
from reelwright.model.config import AttentionConfig


@dataclass
class SparseAttention:
    """An `Attend`. active: set to false, it is dense; a training loop does so until `dense_steps` are done.

    dense, sparse: the attentions it computes by; a rank that has a part of the tokens has others.
    """

    config: AttentionConfig
    active: bool = True
    dense: Attend = dense_attention
    sparse: Callable[..., Tensor] = block_sparse_attention

    def at_step(self, step: int) -> None:
        """Dense for the first `dense_steps` steps, counted from 0."""
        self.active = step >= self.config.dense_steps

    @property
    def current(self) -> AttentionConfig:
        """The attention of the current step: dense in a warm-up."""
        return self.config if self.active else AttentionConfig()

    def arrange(self, layout: Layout) -> Layout:
        """In block order, on entering the network; where all is dense, in (t, h, w) order."""
        sparse = self.active and layout.frames >= self.config.min_frames
        return replace(layout, block=self.block) if sparse else layout

    @property
    def block(self) -> tuple[Triple, Triple]:
        """The queries' and the keys'."""
        return self.config.block, self.config.key_block or self.config.block

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
        """Attend sparsely; densely while it is off or where the video has fewer than `min_frames`.

        Args:
            q: queries, [B, heads, Nq, D], in the layout's order.
            k: keys, [B, heads, Nk, D].
            v: values, [B, heads, Nk, D].
            layout: grid and order of the tokens.
        """
        config = self.config
        if not self.active or layout.frames < config.min_frames:
            return self.dense(q, k, v, layout)
        if 0 < layout.cond_frames < config.min_frames:
            return self._apart(q, k, v, layout)
        rule = TopR(config.keep) if config.cdf is None else CDF(config.cdf)
        grid = (layout.rows, layout.columns)
        return self.sparse(
            q.to(v.dtype),
            k.to(v.dtype),
            v,
            grid_q=(layout.query_frames, *grid),
            grid_k=(layout.frames, *grid),
            block=self.block,
            select=rule,
            cond_frames=layout.cond_frames + layout.cached_frames,
            in_block_order=layout.block is not None,
        )

    def _apart(self, q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
        """Attend apart: a condition that is short enough is dense by itself, as it is when a cache of it is made."""
        clean = layout.cond_frames * layout.frame_tokens
        alone = replace(layout, frames=layout.cond_frames, cond_frames=0)
        condition = self(q[:, :, :clean], k[:, :, :clean], v[:, :, :clean], alone)
        noisy = replace(layout, cond_frames=0, cached_frames=layout.cond_frames)
        return torch.cat((condition, self(q[:, :, clean:], k, v, noisy)), dim=2)


def use_attention(model: nn.Module, config: AttentionConfig) -> SparseAttention | None:
    """Make a DiT attend by a config; return the object that a loop tells its steps to, None for dense attention."""
    if config.form == "dense":
        set_attention(model, dense_attention)
        return None
    attend = SparseAttention(config)
    set_attention(model, attend)
    return attend


@contextmanager
def attending_by(model: nn.Module, config: AttentionConfig) -> Iterator[None]:
    """Make a DiT attend by a config within; afterwards it attends as it did."""
    before = [(module, module.attend) for module in model.modules() if isinstance(module, SelfAttention)]
    try:
        use_attention(model, config)
        yield
    finally:
        for module, attend in before:
            module.attend = attend

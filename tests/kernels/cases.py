"""Random problems, one kind for all paths: grids, blocks, conditions, selections, scores."""

from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from reelwright.kernels import CDF, BlockGrid, BlockLists, TopR, block_grids, put_in_order, select_blocks

RULES = st.integers(1, 20).map(TopR) | st.floats(0, 1).map(TopR) | st.floats(0, 1).map(CDF)


@dataclass
class Case:
    q: Tensor
    k: Tensor
    v: Tensor
    grids: tuple[BlockGrid, BlockGrid]
    select: Any
    options: dict[str, Any]

    def mask(self) -> Tensor:
        """bool [B, heads, query blocks, key blocks] that `select` stands for."""
        q, k = (put_in_order(x, g) for x, g in zip((self.q, self.k), self.grids, strict=True))
        return select_blocks(q, k, *self.grids, self.select).mask(self.grids[1].count)


@st.composite
def cases(draw, dtypes=(torch.float32,), dims=(1, 7, 16, 64), most=(5, 6, 6), rules=RULES):
    """Self-attention, with a condition or a cache of one, or of one grid to another."""
    grid_k = draw(st.tuples(*[st.integers(1, n) for n in most]))
    cond = draw(st.sampled_from([0, 0, 1, 2])) % grid_k[0]
    first = draw(st.sampled_from([0, cond]))
    other = draw(st.booleans()) and not cond
    grid_q = draw(st.tuples(*[st.integers(1, n) for n in most])) if other else (grid_k[0] - first, *grid_k[1:])
    block = draw(st.tuples(*[st.integers(1, 4)] * 3))
    times = draw(st.tuples(*[st.integers(1, 2)] * 3))
    wide = tuple(a * b for a, b in zip(block, times, strict=True))
    pair = draw(st.sampled_from([block, (block, wide), (wide, block)]))
    shape, dim = draw(st.tuples(st.integers(0, 2), st.integers(1, 3))), draw(st.sampled_from(dims))
    grids = block_grids(grid_q, grid_k, pair, cond)
    torch.manual_seed(draw(st.integers(0, 999)))
    dtype, peak = draw(st.sampled_from(dtypes)), draw(st.sampled_from([0.0, 1.0, 1.0, 6.0]))
    q, k, v = (torch.randn(*shape, grids[i].tokens, dim).to(dtype) for i in (0, 1, 1))
    select = _given(draw, shape, grids) if draw(st.integers(0, 3)) == 0 else draw(rules)
    options = {"grid_q": grid_q, "grid_k": grid_k, "block": pair, "cond_frames": cond, "select": select}
    return Case(q * peak, k * peak, v, grids, select, options)


def _given(draw, shape, grids):
    """A mask, or lists that may be one for all heads and have empty rows."""
    bits = torch.rand(grids[0].count, grids[1].count) < draw(st.sampled_from([0.0, 0.2, 0.5, 1.0]))
    return draw(st.sampled_from([bits, BlockLists.of_mask(bits)]))
